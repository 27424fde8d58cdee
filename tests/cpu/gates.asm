; Call gates with parameters, conforming code, interrupt and trap gates, returns to an outer level.
;> gate: 0000001b 22222222 11111111 00000010 
;> back: 00005000 00000023
;> rights: #0d:0040 #0b:0040 #0d:0008
;> if: 00000000 00000200
;> int: #0d:0102 #0b:010a
;> nulls: 00000000 00000023
;> iret: #0d:0010 #0d:0018 #0c:0020 
%include "harness.inc"
start:
    protected
    mov eax, gate_target
    mov [gdt_slot1], ax
    mov word [gdt_slot1 + 2], CODE0
    mov word [gdt_slot1 + 4], 0xec02    ; DPL 3, two parameters
    shr eax, 16
    mov [gdt_slot1 + 6], ax
    print "gate: "
    user
    push dword 0x11111111
    push dword 0x22222222
    call SLOT1 | 3:0
    mov ebx, esp
    mov ecx, ss
    leave_user
    line
    print "back: "
    show ebx
    show ecx
    line
    print "rights: "
    mov word [gdt_slot1 + 4], 0x8c02    ; DPL 0
    user
    try call SLOT1 | 3:0
    leave_user
    mov word [gdt_slot1 + 4], 0x6c02    ; absent
    user
    try call SLOT1 | 3:0
    try call CODE0:0
    leave_user
    line
    print "if: "
    mov dword [IDT + 0x20 * 8], CODE0 << 16 | (.flags - $$ + 0x8000)
    mov dword [IDT + 0x20 * 8 + 4], 0x8e00
    sti
    int 0x20
    cli
    show ebx
    mov byte [IDT + 0x20 * 8 + 5], 0x8f ; a trap gate leaves IF
    sti
    int 0x20
    cli
    show ebx
    line
    print "int: "
    user
    try int 0x20                        ; DPL 0
    leave_user
    mov byte [IDT + 0x21 * 8 + 5], 0x6e ; absent
    user
    leave_user
    try int 0x21
    line
    print "nulls: "
    ; A return to an outer level takes privileged data segments away.
    push dword DATA3
    push dword 0x5000
    push dword 0x3002
    push dword CODE3
    push dword .outer
    mov ax, DATA0
    mov gs, ax
    mov ax, DATA3
    mov fs, ax
    mov [back_esp], esp
    add dword [back_esp], 20
    iretd
.outer:
    mov ebx, gs
    mov ecx, fs
    mov ax, DATA3
    mov ds, ax
    leave_user
    show ebx
    show ecx
    line
    print "iret: "
    push dword 2
    push dword DATA0
    push dword 0
    try iretd
    add esp, 12
    push dword DATA3
    push dword 0x5000
    push dword 2
    push dword CODE3 & ~3               ; level 3 code with RPL 0
    push dword 0
    try iretd
    add esp, 20
    and dword [gdt + 0x20 + 4], ~0x8000 ; the outer stack is absent
    push dword DATA3
    push dword 0x5000
    push dword 2
    push dword CODE3
    push dword 0
    try iretd
    add esp, 20
    or dword [gdt + 0x20 + 4], 0x8000
    done
.flags:
    pushfd
    pop ebx
    and ebx, 0x200
    iretd
gate_target:
    ; On the stack: EIP, CS, two parameters, ESP, SS.
    mov eax, [esp + 4]
    show eax
    mov eax, [esp + 8]
    show eax
    mov eax, [esp + 12]
    show eax
    mov eax, ss
    show eax
    retf 8
