; Error codes of bad selectors, limits and rights at level 0.
;> null: ok #0d #0d
;> limit: #0d:1000 #0d:0ff4 #0d:0ffc
;> absent: #0b:0040 #0c:0040
;> kinds: #0d:0040 #0d:0040 #0d:0040 #0d:0008 #0d
;> data: #0d #0d ok #0c
;> down: #0d ok ok #0d
;> others: #00 #06 #05 #04 +01 #03 +01 #0d:018a
%include "harness.inc"
start:
    protected
    print "null: "
    xor eax, eax
    try mov es, ax
    try mov eax, [es:0x20000]
    try mov ss, ax                      ; a null SS
    mov ax, DATA0
    mov es, ax
    line
    print "limit: "
    mov ax, 0x1000                      ; beyond the GDT
    try mov es, ax
    mov ax, 0x0ff7                      ; LDT with none loaded
    try mov es, ax
    try jmp 0x0fff:0
    line
    print "absent: "
    mov dword [gdt_slot1], 0x0000ffff
    mov dword [gdt_slot1 + 4], 0x00cf1200
    mov ax, SLOT1
    try mov es, ax
    try mov ss, ax
    line
    print "kinds: "
    mov dword [gdt_slot1 + 4], 0x00cf9000
    try mov ss, ax                      ; read-only
    mov dword [gdt_slot1 + 4], 0x00cf9800
    try mov es, ax                      ; execute-only code
    mov dword [gdt_slot1 + 4], 0x00cf8200
    try mov es, ax                      ; a system segment
    mov ax, CODE0
    try mov ss, ax
    try mov [cs:0x20000], eax           ; code is never written
    line
    print "data: "
    mov dword [gdt_slot1], 0x00000fff
    mov dword [gdt_slot1 + 4], 0x00409002 ; 20000, 4 KiB, read-only
    mov ax, SLOT1
    mov es, ax
    try mov [es:0], eax
    try mov eax, [es:0x0ffd]
    try mov eax, [es:0x0ffc]
    mov dword [gdt_slot2], 0x00000fff
    mov dword [gdt_slot2 + 4], 0x00409202
    mov bx, SLOT2
    mov ecx, esp
    mov ss, bx
    mov esp, 0x800
    try mov eax, [ss:0x0ffd]
    mov bx, DATA0
    mov ss, bx
    mov esp, ecx
    line
    print "down: "
    mov dword [gdt_slot1], 0x00000fff
    mov dword [gdt_slot1 + 4], 0x00009602 ; expand-down, 16 bits: 1000 to FFFF
    mov ax, SLOT1
    mov es, ax
    try mov eax, [es:0x0fff]
    try mov eax, [es:0x1000]
    try mov eax, [es:0xfffc]
    try mov eax, [es:0xfffd]
    line
    print "others: "
    xor ecx, ecx
    try div ecx
    try ud2
    mov dword [0x20000], 1
    mov dword [0x20004], 2
    mov eax, 3
    try bound eax, [0x20000]
    mov al, 0x7f
    inc al
    try into
    try int3
    try int 0x30 + 1
    done
