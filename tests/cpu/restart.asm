; An instruction that faults changes nothing, and does its work once when it is executed again.
;> push: #0e:0006@0003fffc 00040000
;> pop: #0e:0006@00030000 00020000 00000077
;> rmw: #0e:0006@00030000 000000d5
;> xchg: #0e:0006@00030000 12345678
;> cmpxchg8b: #0e:0006@00030000 00000001 00000002
;> call: #0e:0006@0003fffc
;> pusha: #0e:0006@0003fffc 00040010
;> enter: #0e:0006@0003fffc 00040000 11111111
;> leave: #0e:0004@00030000 00050000
;> movs: #0e:0006@00030000 0000000c 0002fff0 00030000 61616161
;> again: 00000000 00030030
;> cmps: #0e:0004@00030000 00000008 00030000
;> down: #0e:0006@00030ffc 00000004 00030ffc
%include "harness.inc"
start:
    protected
    paging
    absent 0x3f
    absent 0x30
    user
    mov ebp, esp
    print "push: "
    mov esp, 0x40000
    fault_at .a0, .a
.a0:
    push eax
.a:
    xchg esp, ebp
    show ebp
    line
    print "pop: "
    mov dword [0x20000], 0x77
    mov ebx, esp
    fault_at .b0, .b
    mov esp, 0x20000
.b0:
    pop dword [0x30000]
.b:
    xchg esp, ebx
    show ebx
    show [0x20000]
    line
    print "rmw: "
    mov ah, 0xff
    sahf
    try add dword [0x30000], 1
    lahf
    movzx ecx, ah
    and ecx, 0xd5
    show ecx
    line
    print "xchg: "
    mov ecx, 0x12345678
    try xchg ecx, [0x30000]
    show ecx
    line
    print "cmpxchg8b: "
    mov eax, 1
    mov edx, 2
    try cmpxchg8b [0x30000]
    show eax
    show edx
    line
    print "call: "
    mov ebx, esp
    fault_at .c0, .c
    mov esp, 0x40000
.c0:
    call .c
.c:
    mov esp, ebx
    line
    print "pusha: "
    mov ebx, esp
    fault_at .d0, .d
    mov esp, 0x40010
.d0:
    pushad
.d:
    xchg esp, ebx
    show ebx
    line
    print "enter: "
    mov ebx, esp
    mov ebp, 0x11111111
    fault_at .e0, .e
    mov esp, 0x40000
.e0:
    enter 8, 0
.e:
    xchg esp, ebx
    show ebx
    show ebp
    line
    print "leave: "
    mov ebx, esp
    mov ebp, 0x30000
    fault_at .f0, .f
    mov esp, 0x50000
.f0:
    leave
.f:
    xchg esp, ebx
    show ebx
    line
    print "movs: "
    mov edi, 0x20000
    mov ecx, 0x4000
    mov al, 'a'
    rep stosb
    mov edi, 0x30000 - 0x30
    mov esi, 0x2ffc0
    mov ecx, 24
    push dword [0x20000]
    pop dword [0x2ffc0]
    try rep movsd
    show ecx
    show esi
    show edi
    show [0x2ffd0]
    line
    print "again: "
    mov dword [TABLE + 0x30 * 4], 0x30007
    rep movsd
    show ecx
    show edi
    line
    leave_user
    absent 0x30
    user
    print "cmps: "
    mov edi, 0x20000
    mov ecx, 0x10000
    xor eax, eax
    rep stosb
    mov esi, 0x2ffe0
    mov edi, 0x20000
    mov ecx, 16
    try repe cmpsd
    show ecx
    show esi
    line
    print "down: "
    mov edi, 0x31008
    mov ecx, 7
    std
    try rep stosd
    show ecx
    show edi
    cld
    leave_user
    done
