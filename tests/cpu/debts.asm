; Flags that only a fault shows: ops, then a load that faults before a comparison would have replaced their flags. What is shown are the
; flags after the fault, without AF and OF where they are undefined, and EAX.
;> sub: #0e:0004@00040000 00000095 ffffffff #0e:0004@00040000 00000095 ffffffff #0e:0004@00040000 00000095 ffffffff
;> sub overflows: #0e:0004@00040000 00000814 7fffffff #0e:0004@00040000 00000814 7fffffff #0e:0004@00040000 00000814 7fffffff
;> sub imm: #0e:0004@00040000 00000095 ffffffff #0e:0004@00040000 00000095 ffffffff #0e:0004@00040000 00000095 ffffffff
;> sub itself: #0e:0004@00040000 00000044 00000000 #0e:0004@00040000 00000044 00000000 #0e:0004@00040000 00000044 00000000
;> add: #0e:0004@00040000 00000890 80000002 #0e:0004@00040000 00000890 80000002 #0e:0004@00040000 00000890 80000002
;> add imm: #0e:0004@00040000 00000045 00000000 #0e:0004@00040000 00000045 00000000 #0e:0004@00040000 00000045 00000000
;> add itself: #0e:0004@00040000 00000801 20000002 #0e:0004@00040000 00000801 20000002 #0e:0004@00040000 00000801 20000002
;> cmp: #0e:0004@00040000 00000095 00000005 #0e:0004@00040000 00000095 00000005 #0e:0004@00040000 00000095 00000005
;> cmp imm: #0e:0004@00040000 00000000 00001000 #0e:0004@00040000 00000000 00001000 #0e:0004@00040000 00000000 00001000
;> and: #0e:0004@00040000 00000044 00000000 #0e:0004@00040000 00000044 00000000 #0e:0004@00040000 00000044 00000000
;> or: #0e:0004@00040000 00000004 00000003 #0e:0004@00040000 00000004 00000003 #0e:0004@00040000 00000004 00000003
;> xor: #0e:0004@00040000 00000084 800000ff #0e:0004@00040000 00000084 800000ff #0e:0004@00040000 00000084 800000ff
;> test: #0e:0004@00040000 00000004 12345678 #0e:0004@00040000 00000004 12345678 #0e:0004@00040000 00000004 12345678
;> test two: #0e:0004@00040000 00000044 12345678 #0e:0004@00040000 00000044 12345678 #0e:0004@00040000 00000044 12345678
;> shr: #0e:0004@00040000 00000005 0000000f #0e:0004@00040000 00000005 0000000f #0e:0004@00040000 00000005 0000000f
;> shr 1: #0e:0004@00040000 00000805 40000000 #0e:0004@00040000 00000805 40000000 #0e:0004@00040000 00000805 40000000
;> sar: #0e:0004@00040000 00000085 fffffff9 #0e:0004@00040000 00000085 fffffff9 #0e:0004@00040000 00000085 fffffff9
;> shl: #0e:0004@00040000 00000080 ffffff98 #0e:0004@00040000 00000080 ffffff98 #0e:0004@00040000 00000080 ffffff98
;> rol after: #0e:0004@00040000 00000894 c0000006 #0e:0004@00040000 00000894 c0000006 #0e:0004@00040000 00000894 c0000006
;> ror after: #0e:0004@00040000 00000895 b0000001 #0e:0004@00040000 00000895 b0000001 #0e:0004@00040000 00000895 b0000001
;> rol itself: #0e:0004@00040000 00000885 000001ff #0e:0004@00040000 00000885 000001ff #0e:0004@00040000 00000885 000001ff
;> lost register: #0e:0004@00040000 00000095 00000007 #0e:0004@00040000 00000095 00000007 #0e:0004@00040000 00000095 00000007
;> lost right: #0e:0004@00040000 00000095 ffffffff #0e:0004@00040000 00000095 ffffffff #0e:0004@00040000 00000095 ffffffff
;> setc: #0e:0004@00040000 00000095 00000001 #0e:0004@00040000 00000095 00000001 #0e:0004@00040000 00000095 00000001
;> adc: #0e:0004@00040000 00000894 80000000 #0e:0004@00040000 00000894 80000000 #0e:0004@00040000 00000894 80000000
;> inc after: #0e:0004@00040000 00000001 00000002 #0e:0004@00040000 00000001 00000002 #0e:0004@00040000 00000001 00000002
;> bt after: #0e:0004@00040000 00000004 0000000f #0e:0004@00040000 00000004 0000000f #0e:0004@00040000 00000004 0000000f
;> rotated twice: #0e:0004@00040000 00000084 00001ff0 #0e:0004@00040000 00000084 00001ff0 #0e:0004@00040000 00000084 00001ff0
;> byte rotated: #0e:0004@00040000 00000084 800000ff #0e:0004@00040000 00000084 800000ff #0e:0004@00040000 00000084 800000ff
;> shr, asked twice: #0e:0004@00040000 00000001 00000098 #0e:0004@00040000 00000001 00000098 #0e:0004@00040000 00000001 00000098
;> sar, asked twice: #0e:0004@00040000 00000081 f2000008 #0e:0004@00040000 00000081 f2000008 #0e:0004@00040000 00000081 f2000008
;> shl, asked twice: #0e:0004@00040000 00000081 a0000010 #0e:0004@00040000 00000081 a0000010 #0e:0004@00040000 00000081 a0000010
;> end
%include "harness.inc"

; Name, EAX and EDX before, the flags that are shown, ops.
%macro owe 5-*
    print %1
    mov ebp, 3
%%again:
    mov eax, %2
    mov edx, %3
    fault_at %%here, %%after
    jmp %%now
%%now:
    %rotate 4
    %rep %0 - 4
    %1
    %rotate 1
    %endrep
%%here:
    mov ecx, [0x40000]
    cmp ecx, ecx
    jmp %%now
%%after:
    pushfd
    pop ecx
    and ecx, %4
    show ecx
    show eax
    dec ebp
    jnz %%again
    line
%endmacro

start:
    protected
    paging
    absent 0x40
    user
    owe "sub: ", 0x1, 0x2, 0x8d5, {sub eax, edx}
    owe "sub overflows: ", 0x80000000, 0x1, 0x8d5, {sub eax, edx}
    owe "sub imm: ", 0x5, 0x0, 0x8d5, {sub eax, 6}
    owe "sub itself: ", 0x5, 0x0, 0x8d5, {sub eax, eax}
    owe "add: ", 0x3, 0x7fffffff, 0x8d5, {add eax, edx}
    owe "add imm: ", 0xfffffff0, 0x0, 0x8d5, {add eax, 0x10}
    owe "add itself: ", 0x90000001, 0x0, 0x8d5, {add eax, eax}
    owe "cmp: ", 0x5, 0x6, 0x8d5, {cmp eax, edx}
    owe "cmp imm: ", 0x1000, 0x0, 0x8d5, {cmp eax, 0xff0}
    owe "and: ", 0x55, 0xaa, 0x8c5, {and eax, edx}
    owe "or: ", 0x1, 0x2, 0x8c5, {or eax, edx}
    owe "xor: ", 0x80, 0x8000007f, 0x8c5, {xor eax, edx}
    owe "test: ", 0x12345678, 0x0, 0x8c5, {test eax, eax}
    owe "test two: ", 0x12345678, 0x1, 0x8c5, {test eax, edx}
    owe "shr: ", 0x7f, 0x0, 0xc5, {shr eax, 3}
    owe "shr 1: ", 0x80000001, 0x0, 0x8c5, {shr eax, 1}
    owe "sar: ", 0xffffffcc, 0x0, 0xc5, {sar eax, 3}
    owe "shl: ", 0x9ffffff3, 0x0, 0xc5, {shl eax, 3}
    owe "rol after: ", 0x5, 0x6, 0x8d5, {cmp eax, edx}, {mov eax, 0x60000003}, {rol eax, 1}
    owe "ror after: ", 0x5, 0x6, 0x8d5, {cmp eax, edx}, {mov ebx, 0x60000003}, {ror ebx, 1}, {mov eax, ebx}
    owe "rol itself: ", 0x80, 0x8000007f, 0x8c5, {xor eax, edx}, {rol eax, 1}
    owe "lost register: ", 0x1, 0x2, 0x8d5, {sub eax, edx}, {mov eax, 7}
    owe "lost right: ", 0x1, 0x2, 0x8d5, {sub eax, edx}, {mov edx, 7}
    owe "setc: ", 0x1, 0x2, 0x8d5, {cmp eax, edx}, {setc al}
    owe "adc: ", 0xffffffff, 0x1, 0x8d5, {add eax, edx}, {adc edx, 0x7ffffffe}, {mov eax, edx}
    owe "inc after: ", 0x1, 0x2, 0x8d5, {cmp eax, edx}, {inc eax}
    owe "bt after: ", 0x7f, 0x0, 0x8c5, {shr eax, 3}, {bt eax, 9}
    owe "rotated twice: ", 0x80, 0x8000007f, 0x8c5, {xor eax, edx}, {rol eax, 5}, {rol edx, 3}
    owe "byte rotated: ", 0x80, 0x8000007f, 0x8c5, {xor eax, edx}, {rol al, 4}, {rol edx, 3}
    ; The first load of a page that the TLB does not know is the interpreter's, and asks, too.
    owe "shr, asked twice: ", 0x4c4, 0, 0xc5, {shr eax, 3}, {mov ebx, [0x24000]}
    owe "sar, asked twice: ", 0x90000044, 0, 0xc5, {sar eax, 3}, {mov ebx, [0x25000]}
    owe "shl, asked twice: ", 0x1a000001, 0, 0xc5, {shl eax, 4}, {mov ebx, [0x26000]}
    leave_user
    print "end"
    done
