; Real mode: exceptions, limits, flags of INT, big segments left over from protected mode.
;> div: 00008000 00000002
;> wrap: 0000000d 0000000c
;> int: 00000000 00000200
;> unreal: cafebabe 0000000d
;> bound: 00000005
;> ud: 00000006 00000006 00000006
%include "harness.inc"
%macro vector 2
    mov word [%1 * 4], %2
    mov word [%1 * 4 + 2], 0
%endmacro
; Executes an instruction and shows the vector of what it raised.
%macro attempt 1+
    mov word [resume], %%after
    mov dword [seen], 0xff
    %1
%%after:
    show [seen]
%endmacro
start:
    xor ax, ax
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov sp, 0x8000
    vector 0, v0
    vector 5, v5
    vector 6, v6
    vector 12, v12
    vector 13, v13
    print "div: "
    mov word [resume], .a
    xor cx, cx
.div:
    div cx
.a:
    movzx eax, word [seen_ip]
    sub ax, .div
    add ax, 0x8000
    show eax
    mov ecx, 2
    show ecx
    line
    print "wrap: "
    mov bx, 0xffff
    attempt mov ax, [bx]
    mov bp, 0xffff
    attempt mov ax, [bp]
    line
    print "int: "
    vector 0x40, flags
    sti
    int 0x40
    pushf
    pop cx
    cli
    and ebx, 0x200
    and ecx, 0x200
    show ebx
    show ecx
    line
    print "unreal: "
    lgdt [gdtr]
    mov eax, cr0
    or al, 1
    mov cr0, eax
    mov bx, DATA0
    mov fs, bx
    and al, 0xfe
    mov cr0, eax
    mov bx, 0
    mov esi, 0x200000
    mov dword [fs:esi], 0xcafebabe
    show [fs:esi]
    attempt mov eax, [esi]
    line
    print "bound: "
    mov dword [0x6000], 0x00020001
    mov ax, 3
    attempt bound ax, [0x6000]
    line
    print "ud: "
    attempt ud2
    attempt lldt ax
    attempt arpl ax, ax
    done
flags:
    pushf
    pop bx
    iret
%macro handler 1
    mov dword [seen], %1
    jmp handled
%endmacro
v0: handler 0
v5: handler 5
v6: handler 6
v12: handler 12
v13: handler 13
handled:
    push bp
    mov bp, sp
    push ax
    mov ax, [bp + 2]
    mov [seen_ip], ax
    mov ax, [resume]
    mov [bp + 2], ax
    pop ax
    pop bp
    iret
seen: dd 0
seen_ip: dw 0
