; Fills most of the extended memory of a 64 MB PC through DOS's XMS driver, reads it back and compares.
; Prints one line: “XMS: … hold what was written”, or what is wrong.

        cpu 386
        org 100h

PIECE   equ 16384                       ; bytes a move
KIB     equ 40 * 1024                   ; of extended memory
PIECES  equ KIB * 1024 / PIECE

        mov ax, 4300h
        int 2fh
        mov dx, no_driver
        cmp al, 80h
        jne fail
        mov ax, 4310h
        int 2fh
        mov [driver], bx
        mov [driver + 2], es
        push ds
        pop es

        mov ax, 3306h                   ; where DOS is: DH bit 4, in the high memory area
        int 21h
        mov bx, dx
        mov dx, not_high
        test bh, 10h
        jz fail

        mov ah, 9                       ; allocate
        mov dx, KIB
        call far [driver]
        mov cx, dx
        mov dx, no_memory
        cmp ax, 1
        jne fail
        mov [handle], cx

        xor ebp, ebp
write:  mov di, buffer
        mov eax, ebp
        imul eax, eax, 9e3779b9h
        mov cx, PIECE / 4
.fill:  stosd
        add eax, 01000193h
        loop .fill
        mov si, to_high
        call move
        inc ebp
        cmp ebp, PIECES
        jb write

        xor ebp, ebp
read:   mov si, to_low
        call move
        mov di, buffer
        mov eax, ebp
        imul eax, eax, 9e3779b9h
        mov cx, PIECE / 4
.look:  scasd
        mov dx, differs
        jne fail
        add eax, 01000193h
        loop .look
        inc ebp
        cmp ebp, PIECES
        jb read

        mov ah, 0ah                     ; free
        mov dx, [handle]
        call far [driver]
        mov dx, good
fail:   mov ah, 9
        int 21h
        mov ax, 4c00h
        int 21h

; Moves piece EBP by the block at SI.
move:   mov ax, [handle]
        mov edx, ebp
        imul edx, edx, PIECE
        cmp si, to_low
        je .low
        mov [to_high + 10], ax
        mov [to_high + 12], edx
        mov [to_high + 8], ds
        jmp .go
.low:   mov [to_low + 4], ax
        mov [to_low + 6], edx
        mov [to_low + 14], ds
.go:    mov ah, 0bh
        call far [driver]
        mov dx, no_move
        cmp ax, 1
        jne fail
        ret

; Length, handle and offset of the source, handle and offset of the destination; handle 0 means segment:offset.
to_high:
        dd PIECE
        dw 0, buffer, 0
        dw 0
        dd 0
to_low: dd PIECE
        dw 0
        dd 0
        dw 0, buffer, 0

driver: dw 0, 0
handle: dw 0

no_driver: db "XMS: there is no driver$"
not_high:  db "XMS: DOS is not in high memory$"
no_memory: db "XMS: there are no 40 MB$"
no_move:   db "XMS: a move was refused$"
differs:   db "XMS: memory does not hold what was written$"
good:      db "XMS: 40 MB hold what was written$"

        align 4
buffer: ; PIECE bytes behind the program
