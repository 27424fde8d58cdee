; PAE paging and NX (Intel SDM vol. 3A, 4.4 and 4.6), and the 36-bit page-size extension (4.3).
;> pointers: #0d #0d ok
;> walk: 12345678 00000027 00000067 deadbeef 000000a7 000000e7
;> cached: ok ok #0e@40000000 #0e:0002@40000000 #0d 0002f001
;> reserved: #0e:0009@00031000 #0e:0009@00031000 #0e:0009@00600000 ffffffff
;> efer: #0d 00000000 00000800
;> nx: ok #0e:0011@00031000 ok #0e:0010@00033000 ok #0e:0015@00031000 #0e:0014@00033000
;> directory: ok #0e:0011@00401000 ok
;> off: #0e:0009@00031000 ok
;> pse36: ffffffff #0e:0009@00c00000 deadbeef
%include "harness.inc"
POINTERS   equ 0x2f000
DIRECTORY0 equ 0x2d000
TABLE0     equ 0x2e000
; Calls a function; an exception goes on behind the call.
%macro try_call 1
    mov edi, %1
    mov ebp, esp
    mov dword [resume], %%after
    mov [site], edi
    call edi
    print "ok "
%%after:
    mov esp, ebp
%endmacro
; Table entry of an address below 2 MiB: low half, high half.
%macro map 3
    mov dword [TABLE0 + %1 / 0x1000 * 8], %2
    mov dword [TABLE0 + %1 / 0x1000 * 8 + 4], %3
    invlpg [%1]
%endmacro
start:
    protected
    ; 4 KiB pages for the first 2 MiB, one to one; 00400000 is a 2 MiB page at 0.
    mov edi, DIRECTORY0
    mov ecx, 0x3000 / 4
    xor eax, eax
    rep stosd
    mov dword [POINTERS], DIRECTORY0 | 1
    mov dword [DIRECTORY0], TABLE0 | 7
    mov dword [DIRECTORY0 + 2 * 8], 0x87
    mov edi, TABLE0
    mov eax, 7
    mov ecx, 512
.entry:
    mov [edi], eax
    add eax, 0x1000
    add edi, 8
    loop .entry
    mov eax, POINTERS
    mov cr3, eax
    mov eax, cr4
    or al, 0x20
    mov cr4, eax

    print "pointers: "
    mov ebx, cr0
    or ebx, 0x80000000
    mov dword [POINTERS + 8], 0x1e7     ; reserved bits in a pointer that is present
    try mov cr0, ebx
    mov dword [POINTERS + 8], 1
    mov dword [POINTERS + 12], 0x10     ; an address of more than 36 bits
    try mov cr0, ebx
    mov dword [POINTERS + 8], 0x1e6     ; absent: its other bits do not matter
    try mov cr0, ebx
    line

    print "walk: "
    mov dword [0x30010], 0x12345678
    map 0x30000, 0x30007, 0
    mov eax, [0x30010]
    show eax
    mov eax, [TABLE0 + 0x30 * 8]
    and eax, 0xfff
    show eax
    mov [0x30010], eax
    mov eax, [TABLE0 + 0x30 * 8]
    and eax, 0xfff
    show eax
    mov dword [0x20ff0], 0xdeadbeef
    mov eax, [0x420ff0]
    show eax
    mov eax, [DIRECTORY0 + 2 * 8]
    show eax
    mov [0x420ff4], eax
    mov eax, [DIRECTORY0 + 2 * 8]
    show eax
    line

    print "cached: "
    mov dword [POINTERS + 8], DIRECTORY0 | 1
    mov dword [POINTERS + 12], 0
    mov eax, cr3
    mov cr3, eax
    try mov eax, [0x40000000]
    mov dword [POINTERS + 8], 0         ; the register still has it …
    invlpg [0x40000000]
    try mov eax, [0x40000000]
    mov eax, cr3
    mov cr3, eax                        ; … until CR3 is loaded
    try mov eax, [0x40000000]
    try mov [0x40000000], eax
    mov dword [POINTERS + 24], 3        ; a bad one: CR3 stays as it was
    mov ebx, POINTERS + 0x20
    mov dword [POINTERS + 0x20], 3
    try mov cr3, ebx
    mov eax, cr3
    or al, 1
    show eax
    mov dword [POINTERS + 24], 0
    line

    print "reserved: "
    map 0x31000, 0x31007, 0x10          ; bit 36
    try mov eax, [0x31000]
    map 0x31000, 0x31007, 0x80000000    ; bit 63 without NXE
    try mov eax, [0x31000]
    mov dword [DIRECTORY0 + 3 * 8], 0x2087
    try mov eax, [0x600000]             ; bit 13 of a large page
    map 0x31000, 0x31007, 8             ; bit 35: there is nothing
    mov eax, [0x31000]
    show eax
    line

    print "efer: "
    mov ecx, 0xc0000080
    mov eax, 0x900
    xor edx, edx
    try wrmsr
    rdmsr
    show eax
    mov eax, 0x800
    wrmsr
    rdmsr
    show eax
    line

    print "nx: "
    map 0x31000, 0x31007, 0x80000000
    mov byte [0x31000], 0xc3
    try mov eax, [0x31000]
    try_call 0x31000
    mov byte [0x32000], 0xc3
    try_call 0x32000
    map 0x33000, 0, 0
    try_call 0x33000
    user
    try mov eax, [0x31000]
    try_call 0x31000
    try_call 0x33000
    leave_user
    line

    print "directory: "
    mov byte [0x1000], 0xc3
    mov dword [DIRECTORY0 + 2 * 8 + 4], 0x80000000
    invlpg [0x400000]
    try mov eax, [0x401000]
    try_call 0x401000
    mov dword [DIRECTORY0 + 2 * 8 + 4], 0
    invlpg [0x400000]
    try_call 0x401000
    line

    print "off: "
    mov ecx, 0xc0000080
    xor eax, eax
    xor edx, edx
    wrmsr
    try mov eax, [0x31000]              ; bit 63 is reserved again
    try_call 0x32000
    line

    print "pse36: "
    mov eax, cr0
    and eax, 0x7fffffff
    mov cr0, eax
    mov eax, 0x10
    mov cr4, eax
    paging
    mov dword [DIRECTORY + 8], 0x2087   ; bit 13 is bit 32 of the address
    mov eax, [0x800000]
    show eax
    mov dword [DIRECTORY + 12], 0x20087 ; bit 17 is reserved
    try mov eax, [0xc00000]
    mov dword [DIRECTORY + 16], 0x87
    mov eax, [0x1020ff0]
    show eax
    done
