; Accesses at constant distances from one register: in one page, in two, and where the second of those is absent.
;> in place: 00000001 00000008 fffffffd 00000004
;> sums: 000045c1 0007c100 fffff8ff 000007a1
;> absent: #0e:0004@00041000 00000003 00000001 #0e:0004@00041000 00000002 00000001 #0e:0004@00041000 00000001 00000001
;> pushes: #0e:0006@00030ffc 00031004 00000055 #0e:0006@00030ffc 00031004 00000055 #0e:0006@00030ffc 00031004 00000055
%include "harness.inc"
start:
    protected
    paging
    ; The last access changes memory in place, behind the end of the page, and the TLB knows neither page.
    print "in place: "
    mov ebx, 0x60ffc
    mov ecx, 4
.bits:
    mov eax, cr3
    mov cr3, eax
    mov [ebx], ecx
    mov eax, [ebx]
    bts dword [ebx + 4], 3
    sbb edx, edx
    mov eax, cr3
    mov cr3, eax
    add [ebx + 8], edx
    lock btr dword [ebx + 4], 0
    jc .set
    add dword [ebx + 12], 1
.set:
    dec ecx
    jnz .bits
    show [0x60ffc]
    show [0x61000]
    show [0x61004]
    show [0x61008]
    line
    absent 0x41
    absent 0x30
    user
    print "sums: "
    mov dword [0x20000], 0
    mov dword [0x20004], 0
    mov dword [0x20008], 0
    mov edi, esp
    mov dword [0x20014], 0
    mov ecx, 62
.round:
    ; The frame begins below the end of page 50 or behind it.
    lea ebp, [ecx * 4 + 0x50f00]
    mov [ebp - 8], ecx
    mov dword [ebp + 4], 0x100
    ; CF goes from the comparison over loads to the addition.
    cmp ecx, 33
    mov eax, [ebp - 8]
    mov edx, [ebp + 0x10]
    adc [ebp + 4], eax
    ; Another register's accesses begin between those of this one, and go on behind them.
    mov ebx, 0x20010
    mov [ebx], eax
    mov edx, [ebp + 4]
    mov esi, [ebx]
    add [ebx + 4], esi
    add [0x20000], edx
    mov esp, ebp
    push eax
    push edx
    mov bx, [esp + 2]
    mov bh, [esp]
    pop esi
    xor [esp], esi
    pop eax
    movzx ebx, bx
    add [0x20004], ebx
    add [0x20008], eax
    sub [0x20008], esi
    dec ecx
    jnz .round
    mov esp, edi
    show [0x20000]
    show [0x20004]
    show [0x20008]
    show [0x20014]
    line

    print "absent: "
    mov ebp, 0x40ffc
    mov ecx, 3
.again:
    ; The first access is done, the second faults, and CF is that of the comparison.
    mov [ebp], ecx
    cmp ecx, 77
    try mov eax, [ebp + 4]
    setc al
    movzx eax, al
    show [0x40ffc]
    show eax
    dec ecx
    jnz .again
    line

    print "pushes: "
    mov ecx, 3
.stack:
    mov edi, esp
    mov dword [0x31000], 0
    mov esp, 0x31008
    mov eax, 0x55
    fault_at .third, .after
    push eax
    push eax
.third:
    push eax
.after:
    lea ebx, [esp + 4]
    mov esp, edi
    show ebx
    show [0x31000]
    dec ecx
    jnz .stack
    leave_user
    done
