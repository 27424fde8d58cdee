; Single steps, the shadows of STI and MOV SS, an interrupt in a REP, HLT that an interrupt ends.
; Port 0x80 makes an interrupt pending.
;> step: #01 +01 #01 +02 #01 +05 #01 +06 #01 +07 #01 +0e #01 +0f
;> sti: 00000001
;> ss: 00000002
;> rep: 00000001 00000000 00060000
;> hlt: 00000001
;> popf: 00000000
%include "harness.inc"
start:
    protected
    print "step: "
    mov dword [site], .stepped
    mov ebx, ss
    pushfd
    or dword [esp], 0x100
    popfd
.stepped:
    inc ebx                             ; a trap after this one and those below
    dec ebx
    add ecx, byte 1
    cld
    pushfd
    and dword [esp], ~0x100
    popfd
    line
    ; Interrupt 0x21 leaves in EBP what EBX was.
    mov dword [IDT + 0x21 * 8], CODE0 << 16 | (irq - $$ + 0x8000)
    mov dword [IDT + 0x21 * 8 + 4], 0x8e00
    print "sti: "
    xor ebx, ebx
    mov al, 0x21
    out 0x80, al
    sti
    inc ebx                             ; in the shadow
    inc ebx
    cli
    show ebp
    line
    print "ss: "
    xor ebx, ebx
    mov ecx, esp
    sti
    nop
    mov edx, ss
    mov al, 0x21
    inc ebx
    cli
    out 0x80, al
    sti
    mov ss, edx
    inc ebx
    nop
    cli
    show ebp
    line
    print "rep: "
    mov edi, 0x20000
    mov ecx, 0x10000
    mov ebx, 1
    mov al, 0x21
    out 0x80, al
    sti
    rep stosd
    cli
    show ebp
    show ecx
    show edi
    line
    print "hlt: "
    xor ebx, ebx
    inc ebx
    mov ebp, 9
    mov al, 0x21
    out 0x80, al
    sti
    hlt
    cli
    show ebp
    line
    print "popf: "
    xor ebx, ebx
    mov al, 0x21
    out 0x80, al
    push dword 0x202
    popfd                               ; POPF has no shadow
    inc ebx
    cli
    show ebp
    done
irq:
    mov ebp, ebx
    iretd
