; A boot floppy that hammers ports and addresses at random for ever. The test puts a seed into `seed`. What the generator has
; come to stands at STATE, where a reset leaves it, so that it goes on and does not do the same again.

STATE equ 0x200000                      ; MAGIC, generator, operations so far
MAGIC equ 0x4841494b
IDT   equ 0x1000

    org 0x7c00
    bits 16
start:
    cli
    xor ax, ax
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov sp, 0x7c00
    mov ax, 0x0203                      ; the next three sectors
    mov cx, 2
    mov dx, 0
    mov bx, 0x7e00
    int 0x13
    cli
    in al, 0x92
    or al, 2
    and al, 0xfe
    out 0x92, al
    lgdt [gdtr]
    mov eax, cr0
    or al, 1
    mov cr0, eax
    jmp dword 8:flat

seed: dd 0x12345678
gdt:
    dq 0
    dq 0x00cf9a000000ffff
    dq 0x00cf92000000ffff
gdtr:
    dw gdtr - gdt - 1
    dd gdt
idtr:
    dw 256 * 8 - 1
    dd IDT

    times 510 - ($ - $$) db 0
    dw 0xaa55

    bits 32
flat:
    mov ax, 16
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov esp, 0x7c00
    cld
    mov edi, IDT
    mov ecx, 256
.gate:
    mov eax, 8 << 16 | (ignore - $$ + 0x7c00)
    stosd
    mov eax, 0x8e00
    stosd
    loop .gate
    lidt [idtr]
    cmp dword [STATE], MAGIC
    je next
    mov eax, [seed]
    mov [STATE + 4], eax
    mov dword [STATE + 8], 0
    mov dword [STATE], MAGIC

next:
    inc dword [STATE + 8]
    cld
    call random
    mov ebx, eax                        ; bits 0-2 what, 3-4 width, 5-8 where
    and eax, 7
    jmp [.kinds + eax * 4]
.kinds: dd out_port, out_port, in_port, in_port, write, read, config, odd

; OUT of a random value.
out_port:
    call port
    call risky
    jbe .rarely
.now:
    call random
    test bl, 0x10
    jnz .wide
    test bl, 8
    jnz .word
    out dx, al
    jmp next
.word:
    out dx, ax
    jmp next
.wide:
    out dx, eax
    jmp next
.rarely:                                ; now and then
    call random
    test eax, 0x3fff00
    jz .now
    jmp next

in_port:
    call port
    test bl, 0x10
    jnz .wide
    test bl, 8
    jnz .word
    in al, dx
    jmp next
.word:
    in ax, dx
    jmp next
.wide:
    in eax, dx
    jmp next

write:
    call address
    call random
    test bl, 0x10
    jnz .wide
    test bl, 8
    jnz .word
    mov [edi], al
    jmp next
.word:
    mov [edi], ax
    jmp next
.wide:
    mov [edi], eax
    jmp next

read:
    call address
    test bl, 0x10
    jnz .wide
    test bl, 8
    jnz .word
    mov al, [edi]
    jmp next
.word:
    add ax, [edi]
    jmp next
.wide:
    xor eax, [edi]
    jmp next

; A write to, or read from, PCI configuration space of one of the board's functions.
config:
    call random
    and eax, 0x1fff                     ; devices 0-3
    or eax, 0x80000000
    mov dx, 0xcf8
    out dx, eax
    mov dl, 0xfc
    in eax, dx
    test bl, 0x18
    jnz next
    call random
    out dx, eax
    jmp next

; What is none of these: interrupts for a moment, strings of ports, odd instructions.
odd:
    test bl, 8
    jnz .strings
    test bl, 0x10
    jnz .moment
    call random
    mov ecx, eax
    cpuid
    rdtsc
    wbinvd
    mov eax, cr3
    mov cr3, eax
    jmp next
.moment:
    sti
    nop
    nop
    cli
    jmp next
.strings:
    call port
    mov edi, 0x600000                   ; not where STATE is with A20 closed
    mov esi, edi
    test bl, 0x10
    jnz .out
    call random
    movzx ecx, al
    rep insd
    jmp next
.out:
    call risky
    jbe next
    call random
    movzx ecx, al
    rep outsb
    jmp next

; BE: up to four bytes at port DX reach one that resets the machine, or the memory that says what it boots from.
risky:
    mov ecx, 5
.each:
    movzx eax, word [risks + ecx * 2 - 2]
    sub ax, dx
    cmp ax, 3
    jbe .done
    loop .each
.done:
    ret

; DX: a port, mostly one where a chip is.
port:
    call random
    mov edx, eax
    test ebx, 0x1e0
    jz .any
    mov ecx, eax
    shr ecx, 16
    and ecx, 31
    movzx edx, word [blocks + ecx * 4]
    and ax, [blocks + ecx * 4 + 2]
    add dx, ax
.any:
    ret

; EDI: an address outside of what this program needs.
address:
    call random
    mov edi, eax
    mov ecx, ebx
    shr ecx, 5
    and ecx, 7
    and edi, [masks + ecx * 4]
    add edi, [bases + ecx * 4]
    ret

; EAX: the next number (xorshift32).
random:
    mov eax, [STATE + 4]
    mov ecx, eax
    shl ecx, 13
    xor eax, ecx
    mov ecx, eax
    shr ecx, 17
    xor eax, ecx
    mov ecx, eax
    shl ecx, 5
    xor eax, ecx
    mov [STATE + 4], eax
    ret

ignore:
    iretd

    align 4
bases: dd 0xa0000, 0xc0000, 0xe0000000, 0xfec00000, 0xfee00000, 0xfed00000, 0xfffc0000, 0x400000
masks: dd 0x1ffff, 0x3ffff, 0x1fffffff, 0xfff, 0xfff, 0xfff, 0x3ffff, 0x7fffffff
risks: dw 0x64, 0x71, 0x73, 0x92, 0xcf9
; Port and mask.
blocks:
    dw 0x00, 15, 0x20, 1, 0x40, 3, 0x60, 4, 0x70, 7, 0x80, 15, 0x90, 3, 0xa0, 1
    dw 0xb2, 1, 0xc0, 31, 0x170, 7, 0x1ce, 1, 0x1f0, 7, 0x376, 0, 0x3b4, 11, 0x3c0, 31
    dw 0x3f0, 7, 0x3f6, 0, 0x3f8, 7, 0x4d0, 1, 0x510, 11, 0xcf8, 7, 0xafe0, 3, 0xc000, 15
    dw 0x600, 63, 0x700, 15, 0x402, 0, 0xe9, 0, 0xf0, 1, 0x61, 0, 0xd0, 15, 0xb2, 0
    times 2048 - ($ - $$) db 0
