; Conditions after ops that leave flags, or most of them, or perhaps: double shifts, bit tests, FCMOV. EAX is shown, and CF, ZF, SF and OF,
; a bit each from the lowest up.
;> shld: 23456789 01000001
;> shld 1: a468acf1 01010000
;> shld itself: 45678923 01000001
;> shld cl: 456789ab 01000001
;> shld by nothing: 12345678 00000101
;> shld from ecx: 91a2b3c4 01010000
;> shrd: 01234567 00000001
;> shrd 1: 891a2b3c 01010000
;> shrd cl: 81234567 01010001
;> shrd by nothing: 12345678 00000001
;> in memory: 3456789a 00000000
;> bt: 00000010 00010001
;> btr: 00000000 00000001
;> btc in memory: 00000090 00010000
;> fcmove: 00000005 00000100
;> fcmove, not masked: 00000005 00000100
;> fcmovbe, not masked: ffffffff 00010001
;> fcmovnb, not masked: 00000002 00000000
;> end
%include "harness.inc"

; Name, EAX, EDX, ECX before, ops. Often enough to be native code; ZF is set before the first op, all others are clear.
%macro after 5-*
    print %1
    mov ebp, 100
%%again:
    mov eax, %2
    mov edx, %3
    mov ecx, %4
    cmp edx, edx
    jmp %%now
%%now:
    %rotate 4
    %rep %0 - 4
    %1
    %rotate 1
    %endrep
    setc [seen]
    setz [seen + 1]
    sets [seen + 2]
    seto [seen + 3]
    jc %%carry
%%on:
    dec ebp
    jnz %%again
    mov [value], eax
    show [value]
    show [seen]
    line
    jmp %%end
%%carry:
    nop
    jmp %%on
%%end:
%endmacro

start:
    protected
    fninit
    fldz
    fld1
    after "shld: ", 0x12345678, 0x9abcdef0, 0, {shld eax, edx, 4}
    after "shld 1: ", 0x52345678, 0x9abcdef0, 0, {shld eax, edx, 1}
    after "shld itself: ", 0x92345678, 0, 0, {shld eax, eax, 12}
    after "shld cl: ", 0x12345678, 0x9abcdef0, 0x2c, {shld eax, edx, cl}
    after "shld by nothing: ", 0x12345678, 0x9abcdef0, 0x20, stc, {shld eax, edx, cl}
    after "shld from ecx: ", 0x12345678, 0, 0x90000003, {shld eax, ecx, cl}
    after "shrd: ", 0x12345678, 0x9abcdef0, 0, {shrd eax, edx, 4}
    after "shrd 1: ", 0x12345678, 0x9abcdef1, 0, {shrd eax, edx, 1}
    after "shrd cl: ", 0x12345678, 0x9abcdef8, 4, {shrd eax, edx, cl}
    after "shrd by nothing: ", 0x12345678, 0x9abcdef8, 0, {cmp eax, edx}, {shrd eax, edx, cl}
    after "in memory: ", 0x12345678, 0x9abcdef0, 8, {mov [value], eax}, {shld [value], edx, cl}, {mov eax, [value]}
    after "bt: ", 0x10, 4, 0, {cmp edx, 5}, {bt eax, edx}
    after "btr: ", 0x10, 4, 0, {test edx, edx}, {btr eax, edx}
    after "btc in memory: ", 0x10, 4, 0, {mov [value], eax}, {neg edx}, {btc dword [value], 7}, {mov eax, [value]}
    after "fcmove: ", 5, 5, 0, {cmp eax, edx}, {fcmove st0, st1}
    ; The interpreter has an x87 whose exceptions are not masked.
    fldcw [unmasked]
    after "fcmove, not masked: ", 5, 5, 0, {cmp eax, edx}, {fcmove st0, st1}
    after "fcmovbe, not masked: ", 4, 5, 0, {sub eax, edx}, {fcmovbe st0, st1}
    after "fcmovnb, not masked: ", 7, 5, 0, {sub eax, edx}, {fcmovnb st0, st1}
    print "end"
    done
unmasked: dw 0x37a
value: dd 0
seen: dd 0
