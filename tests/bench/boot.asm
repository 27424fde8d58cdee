; A boot sector that loads a flat 32-bit program behind it and runs it: the same floppy for every PC.
; The program is linked at 0x10000; SECTORS is given on nasm's command line.
bits 16
org 0x7c00
        jmp 0:start
start:  cli
        xor ax, ax
        mov ds, ax
        mov ss, ax
        mov sp, 0x7c00
        mov [drive], dl
        sti
        mov ax, 0x1000
        mov es, ax
        mov si, 1                       ; next sector, from 0
        mov di, SECTORS
.read:  mov ax, si                      ; 18 sectors a track, 2 heads
        xor dx, dx
        mov bx, 18
        div bx
        mov cl, dl
        inc cl
        xor dx, dx
        mov bx, 2
        div bx
        mov ch, al
        mov dh, dl
        mov dl, [drive]
        xor bx, bx
        mov ax, 0x0201
        int 0x13
        jc .read
        mov ax, es
        add ax, 0x20
        mov es, ax
        inc si
        dec di
        jnz .read
        mov ax, 0x2401                  ; open the A20 gate
        int 0x15
        cli
        lgdt [gdtr]
        mov eax, cr0
        or al, 1
        mov cr0, eax
        jmp 8:flat
bits 32
flat:   mov ax, 16
        mov ds, ax
        mov es, ax
        mov ss, ax
        mov fs, ax
        mov gs, ax
        mov esp, 0x90000
        call 0x10000
halt:   hlt
        jmp halt
align 8
gdt:    dq 0, 0x00cf9a000000ffff, 0x00cf92000000ffff
gdtr:   dw 23
        dd gdt
drive:  db 0
        times 510 - ($ - $$) db 0
        dw 0xaa55
