; System management mode (Intel SDM vol. 3C, 31.3 to 31.11). A byte at port 0xB2 pulls SMI#.
;> outside: #06
;> entry: S 0000abcd 00000000 00003000 00000002 00000400 00000000
;> map: 00000000 00000055 00000028 00020000 00030000
;> hidden: S 12345678
;> level 3: S 80000001 0000001b
;> latched: SS 00000002
;> interrupt: S 00000001
;> moved: S T 00040000
%include "harness.inc"
KEEP equ 0x20000                        ; what the handler leaves
start:
    ; The handler at SMBASE + 8000.
    cld
    mov ax, 0x3000
    mov es, ax
    mov di, 0x8000
    mov si, handler
    mov cx, handler_end - handler
    rep movsb
    mov ax, 0x4000
    mov es, ax
    mov di, 0x8000
    mov si, second
    mov cx, second_end - second
    rep movsb
    xor ax, ax
    mov es, ax
    protected
    mov dword [IDT + 0x21 * 8], CODE0 << 16 | (irq - $$ + 0x8000)
    mov dword [IDT + 0x21 * 8 + 4], 0x8e00
    print "outside: "
    try rsm
    line

    print "entry: "
    mov byte [KEEP + 0x80], 1
    mov dword [KEEP + 0x84], .back
    mov al, 0x55
    out 0xb2, al
.back:
    print " "
    show eax                            ; the handler put it into the map
    show [KEEP + 0]                     ; CR0: PE and PG
    show [KEEP + 4]                     ; CS
    show [KEEP + 8]                     ; EFLAGS
    show [KEEP + 12]                    ; DR7
    show [KEEP + 16]                    ; CR4
    line
    print "map: "
    mov eax, [KEEP + 0x20]
    sub eax, .back                      ; EIP: the next instruction
    show eax
    movzx eax, byte [KEEP + 0x24]
    show eax
    show [KEEP + 0x28]                  ; TR
    show [KEEP + 0x2c]
    show [KEEP + 0x30]
    line

    print "hidden: "
    mov dword [gdt_slot1], 0x0000ffff
    mov dword [gdt_slot1 + 4], 0x00409202 ; base 20000
    mov dword [KEEP + 0x100], 0x12345678
    mov ax, SLOT1
    mov fs, ax
    mov dword [gdt_slot1 + 4], 0        ; from now on only the register knows it
    mov byte [KEEP + 0x80], 0
    out 0xb2, al
    print " "
    mov eax, [fs:0x100]
    show eax
    line

    print "level 3: "
    paging
    user
    out 0xb2, al
    print " "
    mov ecx, cs
    leave_user
    mov eax, cr0
    and eax, 0x80000001
    show eax
    show ecx
    mov eax, cr0
    and eax, 0x7fffffff
    mov cr0, eax
    line

    print "latched: "                   ; an SMI during an SMI comes after RSM, once
    mov dword [KEEP + 0x88], 0
    mov byte [KEEP + 0x80], 2
    out 0xb2, al
    print " "
    show [KEEP + 0x88]
    line

    print "interrupt: "                 ; none while SMM runs
    xor ebx, ebx
    sti
    nop
    mov byte [KEEP + 0x80], 3
    out 0xb2, al
    nop
    cli
    print " "
    show ebx
    line

    print "moved: "
    mov byte [KEEP + 0x80], 4
    out 0xb2, al
    print " "
    out 0xb2, al
    print " "
    show [KEEP + 0x30]
    done
irq:
    inc ebx
    iretd

    bits 16
handler:
    print "S"
    mov ax, 0x2000
    mov ds, ax
    cmp byte [0x80], 1
    je .look
    cmp byte [0x80], 2
    je .again
    cmp byte [0x80], 3
    je .interrupt
    cmp byte [0x80], 4
    je .move
    rsm
.look:
    mov eax, cr0
    and eax, 0x80000001
    mov [0], eax
    xor eax, eax
    mov ax, cs
    mov [4], eax
    xor eax, eax
    mov ss, ax
    mov esp, 0x4000
    mov eax, dr7
    mov [12], eax
    mov eax, cr4
    mov [16], eax
    xor eax, eax
    pushfd
    pop eax
    and eax, ~0xd5                      ; what the comparisons left
    mov [8], eax
    mov eax, [cs:0xfff0]
    mov [0x20], eax
    mov eax, [cs:0xffd0]
    mov [0x24], eax
    mov eax, [cs:0xffc4]
    mov [0x28], eax
    mov eax, [cs:0xfefc]
    mov [0x2c], eax
    mov eax, [cs:0xfef8]
    mov [0x30], eax
    mov dword [cs:0xffd0], 0xabcd
    rsm
.again:
    inc dword [0x88]
    mov byte [0x80], 5
    out 0xb2, al
    out 0xb2, al
    mov byte [0x80], 6
    inc dword [0x88]
    rsm
.interrupt:
    mov al, 0x21
    out 0x80, al
    nop
    nop
    rsm
.move:
    mov dword [cs:0xfef8], 0x40000
    rsm
handler_end:

second:
    print "T"
    mov ax, 0x2000
    mov ds, ax
    mov eax, [cs:0xfef8]
    mov [0x30], eax
    rsm
second_end:
