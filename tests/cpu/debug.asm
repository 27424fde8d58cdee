; Debug registers, single step and INT1 (Intel SDM vol. 3B, 17.2 and 17.3; vol. 3A, 6.8.3 and 6.9).
; Each #DB writes DR6 (B0-3, BD, BS, BT), the distance of EIP from the site, and r where RF was pushed set.
;> code: 0001+00 0001+00 00000002
;> other page: 0004+00 00000001
;> rep code: 0001+00 00000000
;> write: 0002+06 0002+07 0002+06 0002+02
;> read: 0002+05 0002+07
;> across: 0002+05 0002+05
;> fault: #05 0002+06
;> stack: 0008+01 0008+05
;> rep data: 0002+00r 0002+02 00000000
;> shadow: 0002+07 4002+07 4000+08 4000+0f 4000+10
;> port: 0004+02 0004+02 0004+03 #06 #06
;> guard: 2000+00r 00000000 00000400
;> both: 4000+01 0001+01 4000+02 4000+03 4000+0a 4000+0b
;> icebp: 0000+01
;> alias: ffff0ff0 00000400
;> task: 8000+00 00000602
;> level 3: #0d #0d
%include "harness.inc"
NEW_TASK equ 0x24000
%macro set_dr 2
    mov eax, %2
    mov dr%1, eax
%endmacro
%macro here 0
    mov dword [site], %%here
%%here:
%endmacro
start:
    protected
    paging
    mov dword [IDT + 1 * 8], CODE0 << 16 | (debug - $$ + 0x8000)
    mov dword [IDT + 1 * 8 + 4], 0x8e00

    print "code: "
    mov dword [site], .code
    xor ebx, ebx
    mov ecx, 2
    set_dr 0, .code
    set_dr 7, 0x401                     ; local, execution
.loop:
    nop
.code:
    inc ebx
    loop .loop
    set_dr 7, 0x400
    show ebx
    line

    print "other page: "
    mov word [0x30ffe], 0x9090          ; nop, nop, then on the next page: inc ebx, ret
    mov word [0x31000], 0xc343
    mov edi, 0x30ffe
    call edi                            ; linked before the breakpoint is there
    call edi
    xor ebx, ebx
    mov dword [site], 0x31000
    set_dr 2, 0x31000
    set_dr 7, 0x420                     ; global, execution
    call edi
    set_dr 7, 0x400
    show ebx
    line

    print "rep code: "
    mov dword [site], .rep
    mov edi, 0x20000
    mov ecx, 5000
    set_dr 0, .rep
    set_dr 7, 0x401
.rep:
    rep stosb                           ; once, not for each element
    set_dr 7, 0x400
    show ecx
    line

    print "write: "
    set_dr 1, 0x20004
    set_dr 7, 0xd00404                  ; local, write, 4 bytes
    mov eax, [0x20004]
    mov [0x20000], eax
    mov [0x20008], eax
    here
    mov [dword 0x20007], bl
    nop
    here
    add dword [dword 0x20004], byte 1
    nop
    here
    or [dword 0x20006], ebx
    nop
    mov edi, 0x20005
    here
    inc byte [edi]
    set_dr 7, 0x400
    line

    print "read: "
    set_dr 7, 0xf00404                  ; read or write
    here
    mov eax, [0x20004]
    nop
    here
    cmp byte [dword 0x20007], 0
    set_dr 7, 0x400
    line

    print "across: "                    ; an access that crosses a page
    set_dr 1, 0x30ffe
    set_dr 7, 0x700404                  ; read or write, 2 bytes
    here
    mov eax, [0x30ffc]
    nop
    set_dr 1, 0x31000
    here
    mov eax, [0x30ffe]
    nop
    set_dr 7, 0x400
    line

    print "fault: "                     ; what does not complete has hit nothing
    set_dr 1, 0x20004
    mov dword [0x20004], 0
    mov dword [0x20008], 0
    set_dr 7, 0xf00404
    mov eax, 5
    try bound eax, [0x20004]
    xor eax, eax
    here
    bound eax, [dword 0x20004]
    set_dr 7, 0x400
    line

    print "stack: "
    lea eax, [esp - 4]
    mov dr3, eax
    set_dr 7, 0xd0000440
    here
    push eax
    pop eax
    here
    call .called
.called:
    add esp, 4
    set_dr 7, 0x400
    line

    print "rep data: "
    set_dr 1, 0x20001
    set_dr 7, 0x100404                  ; write, 1 byte
    mov edi, 0x20000
    mov ecx, 3
    here
    rep stosb
    mov edi, 0x20000
    mov ecx, 2
    here
    rep stosb
    set_dr 7, 0x400
    show ecx
    line

    print "shadow: "                    ; a trap of MOV SS comes after the next instruction
    mov dword [0x20004], DATA0
    set_dr 1, 0x20004
    set_dr 7, 0x700404
    here
    mov ss, [0x20004]
    nop
    nop
    pushfd
    or dword [esp], 0x100
    mov dword [site], .stepped
    popfd
.stepped:
    mov ss, [0x20004]
    nop
    pushfd
    and dword [esp], ~0x100
    popfd
    set_dr 7, 0x400
    line

    print "port: "
    mov eax, cr4
    or al, 8                            ; DE
    mov cr4, eax
    set_dr 2, 0x70
    set_dr 7, 0x2000410                 ; port, 1 byte
    here
    in al, 0x70
    here
    out 0x70, al
    in al, 0x71
    here
    in ax, 0x6f
    set_dr 7, 0x400
    try mov eax, dr4
    try mov dr5, eax
    mov eax, cr4
    and al, ~8
    mov cr4, eax
    line

    print "guard: "
    set_dr 0, 0
    set_dr 7, 0x2400
    here
    mov eax, dr0
    show eax
    mov eax, dr7
    show eax
    line

    print "both: "                      ; the trap of one instruction comes before the breakpoint of the next
    set_dr 0, .two
    set_dr 7, 0x401
    mov dword [site], .one
    pushfd
    or dword [esp], 0x100
    popfd
.one:
    nop
.two:
    nop
    pushfd
    and dword [esp], ~0x100
    popfd
    set_dr 7, 0x400
    line

    print "icebp: "
    here
    int1
    line

    print "alias: "
    mov eax, dr4
    show eax
    mov eax, dr5
    show eax
    line

    print "task: "
    mov edi, NEW_TASK
    mov ecx, 104 / 4
    xor eax, eax
    rep stosd
    mov dword [NEW_TASK + 4], 0x6000
    mov dword [NEW_TASK + 8], DATA0
    mov dword [NEW_TASK + 28], DIRECTORY
    mov dword [NEW_TASK + 32], .task
    mov dword [NEW_TASK + 36], 2
    mov [NEW_TASK + 56], esp
    mov dword [NEW_TASK + 72], DATA0
    mov dword [NEW_TASK + 76], CODE0
    mov dword [NEW_TASK + 80], DATA0
    mov dword [NEW_TASK + 84], DATA0
    mov dword [NEW_TASK + 100], 0x680001 ; T
    mov dword [gdt_slot1], (NEW_TASK & 0xffff) << 16 | 0x67
    mov dword [gdt_slot1 + 4], 0x8900 | NEW_TASK >> 16
    set_dr 0, 0
    set_dr 7, 0x707
    mov dword [site], .task
    jmp SLOT1:0
.task:
    mov eax, dr7                        ; the local enables are gone
    show eax
    set_dr 7, 0x400
    line

    print "level 3: "
    user
    try mov eax, dr0
    try mov dr7, eax
    leave_user
    done

debug:
    push eax
    push ebx
    mov ebx, dr6
    mov al, bh
    and al, 0xe0
    call hex8
    mov al, bl
    and al, 15
    call hex8
    print "+"
    mov eax, [esp + 8]
    sub eax, [site]
    call hex8
    test byte [esp + 18], 1
    jz .space
    print "r"
.space:
    print " "
    test bh, 0x40
    jnz .clear
    or byte [esp + 18], 1               ; RF, but for single steps
.clear:
    mov eax, 0xffff0ff0
    mov dr6, eax
    pop ebx
    pop eax
    iretd
