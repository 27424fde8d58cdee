; Virtual-8086 mode: in by IRET, segments, IOPL-sensitive instructions, the I/O bitmap, out by exceptions.
;> in: 00000800 0002000a 
;> iopl0: #0d #0d #0d #0d #0d ok #06
;> iopl3: ok ok ok
;> limit: #0d #0c
;> io: ok #0d #0d ok 
;> out: 00000000 00000000 00020002 00001234
%include "harness.inc"
; Goes on in virtual-8086 mode with these EFLAGS; CS is 0, DS and the others are 0.
%macro virtual 1
    mov [back_esp], esp
    push dword 0
    push dword 0
    push dword 0
    push dword 0
    push dword 0
    push dword 0x4000
    push dword 0x20002 | %1
    push dword 0
    push dword %%here
    iretd
    bits 16
%%here:
%endmacro
%macro leave_virtual 0
    mov dword [back], %%here
    int 0x30
    bits 32
%%here:
%endmacro
start:
    protected
    print "in: "
    virtual 0x3000
    mov ax, 0x80
    mov ds, ax
    mov ebx, [0]                        ; linear 800
    mov ax, 0
    mov ds, ax
    leave_virtual
    mov dword [0x800], 0x800
    virtual 0x3000
    mov ax, 0x80
    mov ds, ax
    mov ebx, [0]
    xor ax, ax
    mov ds, ax
    mov ecx, ss
    add ecx, 0x2000a
    leave_virtual
    show ebx
    show ecx
    line
    print "iopl0: "
    virtual 0
    try cli
    try sti
    try pushf
    try popf
    try int 0x20
    try nop
    mov dword [back], .next
    mov byte [escape], 1              ; INT is IOPL-sensitive, too: come out by an exception
    mov dword [site], .ud
.ud:
    ud2
    bits 32
.next:
    line
    print "iopl3: "
    virtual 0x3000
    try cli
    try pushf
    try popf
    leave_virtual
    line
    print "limit: "
    virtual 0x3000
    mov bx, 0xffff
    try mov ax, [bx]
    mov bp, 0xffff
    try mov ax, [bp]
    leave_virtual
    line
    print "io: "
    or byte [TASK + 0x68 + 0x71 / 8], 1 << (0x71 & 7)
    virtual 0x3000
    try in al, 0x70
    try in al, 0x71
    try in ax, 0x70
    try in al, 0x72
    leave_virtual
    line
    print "out: "
    virtual 0x3000
    mov ax, 0x1234
    mov fs, ax
    mov gs, ax
    leave_virtual
    ; FS and GS are null at level 0.
    mov eax, fs
    show eax
    mov eax, gs
    show eax
    ; Level 0's stack: EIP, CS, EFLAGS, ESP, SS, ES, DS, FS, GS.
    mov eax, [0x6000 - 28]
    and eax, 0x20002
    show eax
    show [0x6000 - 8]
    done
