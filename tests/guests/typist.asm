; A guest that never rests: it asks for keys again and again, echoes each, and at Enter says how many came, and their sum, which is
; rotated before each.

    bits 16
    org 0x7c00

    xor ax, ax
    mov ds, ax
    cld
    mov ax, 3
    int 0x10
    mov si, ready
    call say
start:
    xor cx, cx
    xor dx, dx
again:
    mov ah, 1
    int 0x16
    jz again
    xor ax, ax
    int 0x16
    cmp al, 13
    je enter_key
    inc cx
    rol dx, 1
    xor ah, ah
    add dx, ax
    call put
    jmp again
enter_key:
    mov si, count
    call say
    mov ax, cx
    call hexadecimal
    mov si, sum
    call say
    mov ax, dx
    call hexadecimal
    mov si, line
    call say
    jmp start

; Prints AX in four hexadecimal digits.
hexadecimal:
    mov bp, 4
.digit:
    rol ax, 4
    push ax
    and al, 15
    add al, '0'
    cmp al, '9'
    jbe .decimal
    add al, 'a' - '0' - 10
.decimal:
    call put
    pop ax
    dec bp
    jnz .digit
    ret

; Prints the text at SI up to a zero.
say:
    lodsb
    test al, al
    jz .done
    call put
    jmp say
.done:
    ret

; Prints the character in AL.
put:
    push bp
    mov ah, 0x0e
    mov bx, 7
    int 0x10
    pop bp
    ret

ready: db "ready", 13, 10, 0
count: db 13, 10, "keys ", 0
sum:   db " sum ", 0
line:  db 13, 10, 0

    times 510 - ($ - $$) db 0
    dw 0xaa55
