; Virtual-8086 mode extensions and protected-mode virtual interrupts (Intel SDM vol. 3B, 20.3 and 20.4).
;> iopl 0: 00003000 ok 00003200 00080200 ok 00003000 00000200
;> refused: #0d #0d #0d #0d
;> pending: #0d #0d #0d ok
;> int: 00003203 00003000 #0d 00080200
;> iopl 3: 00003203 00003000 00080200 #0d:021a
;> iret: 00080200 00000200 #0d
;> outside: #0d
;> pvi: ok 00080202 ok 00000202 #0d #0d
%include "harness.inc"
MAP equ TASK + 0x68                     ; the redirection bitmap
; Goes on in virtual-8086 mode with these EFLAGS; CS, DS and the others are 0.
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
; Comes back: INT3 is no INT n and asks neither IOPL nor the bitmap.
%macro leave_virtual 0
    mov dword [back], %%here
    int3
    bits 32
%%here:
%endmacro
; The interrupt flag and IOPL that the virtual-8086 program sees.
%macro see_flags 0
    pushf
    pop bx
    and ebx, 0x3300
    show ebx
%endmacro
; The interrupt flags as the monitor has them, from level 0's stack.
%macro true_flags 0
    mov eax, [0x6000 - 28]
    and eax, 0x180200
    show eax
%endmacro
start:
    protected
    mov eax, [IDT + 0x30 * 8]
    mov [IDT + 3 * 8], eax
    mov word [TASK + 102], 0x88
    mov byte [MAP + 0x43 / 8], 1 << (0x43 & 7)
    mov dword [0x42 * 4], handler - $$ + 0x8000
    mov eax, cr4
    or al, 1                            ; VME
    mov cr4, eax

    print "iopl 0: "
    virtual 0x200
    see_flags
    try sti
    see_flags
    leave_virtual
    true_flags
    virtual 0x80200
    try cli
    see_flags
    leave_virtual
    true_flags
    line

    print "refused: "
    virtual 0x200
    try pushfd
    try popfd
    try iretd
    push word 0x102
    try popf                            ; no single step
    leave_virtual
    line

    print "pending: "
    virtual 0x100200
    try sti
    push word 0x202
    try popf
    push word 0
    push word .back - $$ + 0x8000
    try iret
.back:
    try cli
    leave_virtual
    line

    print "int: "
    virtual 0x80200
    stc
    int 0x42
    try int 0x43                        ; its bit is set
    leave_virtual
    true_flags
    line

    print "iopl 3: "
    virtual 0x83200
    stc
    int 0x42
    leave_virtual
    true_flags
    virtual 0x3200
    try int 0x43                        ; through the IDT, where there is no such gate
    leave_virtual
    line

    print "iret: "
    virtual 0x200
    push word 0x202
    push word 0
    push word .one - $$ + 0x8000
    iret
.one:
    leave_virtual
    true_flags
    virtual 0x80200
    push word 2
    push word 0
    push word .two - $$ + 0x8000
    iret
.two:
    leave_virtual
    true_flags
    virtual 0x200
    push word 0x102
    push word 0
    push word .two - $$ + 0x8000
    try iret
    leave_virtual
    line

    print "outside: "
    mov word [TASK + 102], 0x10
    virtual 0x200
    try int 0x42
    leave_virtual
    mov word [TASK + 102], 0x88
    line

    print "pvi: "
    mov eax, cr4
    and al, ~1
    or al, 2
    mov cr4, eax
    mov [back_esp], esp
    push dword DATA3
    push dword 0x5000
    push dword 0x202
    push dword CODE3
    push dword .user
    mov ax, DATA3
    mov ds, ax
    mov es, ax
    mov word [TASK + 102], 0x88
    iretd
.user:
    try sti
    pushfd
    pop ebx
    leave_user
    and ebx, ~0x95
    show ebx
    mov [back_esp], esp
    push dword DATA3
    push dword 0x5000
    push dword 0x80202
    push dword CODE3
    push dword .user2
    mov ax, DATA3
    mov ds, ax
    mov es, ax
    iretd
.user2:
    try cli
    pushfd
    pop ebx
    leave_user
    and ebx, ~0x95
    show ebx
    mov eax, cr4
    and al, ~2
    mov cr4, eax
    mov [back_esp], esp
    push dword DATA3
    push dword 0x5000
    push dword 0x202
    push dword CODE3
    push dword .user3
    mov ax, DATA3
    mov ds, ax
    mov es, ax
    iretd
.user3:
    try cli
    try sti
    leave_user
    done

    bits 16
handler:
    mov bp, sp
    movzx ebx, word [bp + 4]
    show ebx
    see_flags
    iret
