; Page faults: error codes, CR2, accessed and dirty bits, write protection, 4 MiB pages, accesses across pages, what flushes.
;> levels: #0e@00030000 #0e:0002@00030000 ok #0e:0005@00031000 #0e:0007@00032000 #0e:0004@00030000
;> wp: ok #0e:0003@00032000
;> bits: 00033007 00033027 00033067
;> across: #0e:0002@00030000 11111111 #0e:0002@00030000
;> code: ok #0e@00036000 ok
;> large: deadbeef #0e:0002@00c00000 000000e7
;> stack: #0e:0006@0002fffc 00030000
;> flush: 00000001 00000001 00000002 00000002 00000001 00000002 00000001 00000002
%include "harness.inc"
start:
    protected
    paging
    print "levels: "
    mov dword [TABLE + 0x30 * 4], 0     ; absent
    mov dword [TABLE + 0x31 * 4], 0x31003 ; the supervisor's
    mov dword [TABLE + 0x32 * 4], 0x32005 ; read-only
    mov eax, cr3
    mov cr3, eax
    try mov eax, [0x30000]
    try mov [0x30000], eax
    try mov [0x32000], eax              ; without WP the supervisor writes anything
    user
    try mov eax, [0x31000]
    try mov [0x32000], eax
    try mov eax, [0x30000]
    leave_user
    line
    print "wp: "
    try mov [0x32000], eax
    mov eax, cr0
    or eax, 0x10000
    mov cr0, eax
    try mov [0x32000], eax
    mov eax, cr0
    and eax, ~0x10000
    mov cr0, eax
    line
    print "bits: "
    mov dword [TABLE + 0x33 * 4], 0x33007
    invlpg [0x33000]
    show [TABLE + 0x33 * 4]
    mov eax, [0x33000]
    show [TABLE + 0x33 * 4]
    mov [0x33000], eax
    show [TABLE + 0x33 * 4]
    line
    print "across: "
    mov dword [0x2fffc], 0x11111111
    try mov dword [0x2fffe], 0x22222222 ; nothing of it is stored
    show [0x2fffc]
    try add dword [0x2fffe], 1
    line
    print "code: "
    mov dword [TABLE + 0x36 * 4], 0
    invlpg [0x36000]
    mov byte [0x35fff], 0xc3            ; ret, just before the page
    mov edi, 0x35fff
    try call edi
    mov word [0x35ffe], 0xb890          ; nop, mov eax, imm32 across the page
    mov edi, 0x35ffe
    try_function 0x35fff
    mov dword [TABLE + 0x36 * 4], 0x36007
    mov dword [0x36000], 0x12345678
    mov byte [0x36004], 0xc3
    try call edi
    line
    print "large: "
    mov eax, cr4
    or al, 0x10
    mov cr4, eax
    mov dword [DIRECTORY + 8], 0x000000e7 & ~0x60 ; 00800000 is 0
    mov dword [0x20010], 0xdeadbeef
    mov eax, [0x820010]
    show eax
    try mov [0xc00000], eax
    mov [0x820014], eax
    show [DIRECTORY + 8]
    line
    print "stack: "
    mov ecx, esp
    mov dword [TABLE + 0x2f * 4], 0
    invlpg [0x2f000]
    fault_at .push, .popped
    ; The handler needs a stack that is there: let level 3 push.
    user
    mov esp, 0x30000
.push:
    push eax
.popped:
    mov ebx, esp
    leave_user
    show ebx
    line
    print "flush: "
    mov dword [0x34000], 1
    mov dword [0x35000], 2
    mov dword [TABLE + 0x2f * 4], 0x2f007
    mov dword [TABLE + 0x38 * 4], 0x34007
    show [0x38000]
    mov dword [TABLE + 0x38 * 4], 0x35007
    show [0x38000]                      ; as it was
    mov eax, cr3
    mov cr3, eax
    show [0x38000]
    mov eax, cr4
    or eax, 0x80                        ; PGE
    mov cr4, eax
    mov dword [TABLE + 0x38 * 4], 0x35107
    invlpg [0x38000]
    show [0x38000]
    mov dword [TABLE + 0x38 * 4], 0x34107
    invlpg [0x38fff]                    ; global or not
    show [0x38000]
    mov dword [TABLE + 0x38 * 4], 0x35107
    mov eax, cr3
    mov cr3, eax
    mov ebx, [0x38000]                  ; global: still as it was
    mov eax, cr4
    and eax, ~0x80
    mov cr4, eax
    show [0x38000]                      ; a change of PGE flushes all
    show ebx
    mov dword [DIRECTORY + 4], 0x400087
    mov dword [0x434000], 2
    mov dword [DIRECTORY + 12], 0x87    ; 00c00000 is 0
    invlpg [0xc00000]
    mov eax, [0xc35000]
    mov eax, [0xc34000]
    mov dword [DIRECTORY + 12], 0x400087
    invlpg [0xffffff]                   ; any address of a large page
    show [0xc34000]
    done
