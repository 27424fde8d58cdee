; POPFD and PUSHFD at level 0, three times each: what was popped, CF in a register, and CF and 2 × ZF after a look at ZF and an INC.
;> nothing: 00000002 00000000 00000000
;> all arithmetic: 000008d7 00000001 00000003
;> carry and overflow: 00000803 00000001 00000001
;> zero: 00000042 00000000 00000002
;> interrupts: 00000202 00000000 00000000
;> direction, nested, identification: 00204402 00000000 00000000
;> level of ports: 00003002 00000000 00000000
;> reserved ones: 00000002 00000000 00000000
;> in the loop: 00000056
%include "harness.inc"

; Name, image.
%macro pop_them 2
    print %1
    mov ebp, 3
%%again:
    jmp %%now
%%now:
    push dword %2
    popfd
    pushfd
    pop edx
    cld
    mov eax, 0
    adc eax, 0                          ; CF as popped
    mov esi, eax
    push dword %2
    popfd
    setz al                             ; and ZF
    inc ebx                             ; leaves CF
    mov ecx, 0
    adc ecx, ecx
    push dword 2
    popfd
    dec ebp
    jnz %%again
    show edx
    show esi
    movzx eax, al
    lea eax, [ecx + eax * 2]
    show eax
    line
%endmacro

start:
    protected
    mov ebx, 0x7ffffffe
    pop_them "nothing: ", 2
    pop_them "all arithmetic: ", 0x8d7
    pop_them "carry and overflow: ", 0x803
    pop_them "zero: ", 0x42
    pop_them "interrupts: ", 0x202
    pop_them "direction, nested, identification: ", 0x204402
    pop_them "level of ports: ", 0x3002
    pop_them "reserved ones: ", 0xffc08028
    print "in the loop: "
    ; Interrupts off and on again as a kernel does it, with flags that go round.
    mov ecx, 25
    xor edx, edx
.again:
    cmp ecx, 12
    pushfd
    cli
    add edx, 1
    popfd
    adc edx, 2                          ; CF for the last twelve, less one
    sti
    nop
    pushfd
    or dword [esp], 0x200
    popfd
    cli
    dec ecx
    jnz .again
    show edx
    done
