; Floppy B through the BIOS: format a track, write, verify, read back; then another disk.

%include "boot.inc"

BUFFER equ 0xd000

main:
    ; The type of the drive, as the CMOS has it.
    mov ah, 0x08
    mov dl, 1
    xor di, di
    int 0x13
    jc failed
    xor ax, ax
    mov ds, ax
    mov es, ax
    push cx
    print "type "
    mov al, bl
    call hex
    pop cx
    print " cylinders "
    mov al, ch
    call hex
    print " sectors "
    mov al, cl
    call hex
    call newline

    ; Cylinder 5, head 1: 18 sectors of 512 bytes.
    mov di, BUFFER
    mov cl, 1
.id:
    mov ax, 0x0105
    stosw
    mov al, cl
    mov ah, 2
    stosw
    inc cl
    cmp cl, 19
    jne .id
    mov ax, 0x0512
    mov bx, BUFFER
    mov cx, 0x0501
    mov dx, 0x0101
    int 0x13
    jc failed
    print "formatted"
    call newline

    ; Three sectors in the middle of it.
    mov di, BUFFER
    mov cx, 3 * 512
    mov al, 0x5a
    rep stosb
    mov ax, 0x0303
    mov bx, BUFFER
    mov cx, 0x0507
    mov dx, 0x0101
    int 0x13
    jc failed
    mov ax, 0x0412
    mov cx, 0x0501
    mov dx, 0x0101
    int 0x13
    jc failed
    print "written"
    call newline

    ; The whole track: the filler, and between it what was written.
    mov ax, 0x0212
    mov bx, BUFFER
    mov cx, 0x0501
    mov dx, 0x0101
    int 0x13
    jc failed
    mov si, BUFFER
    mov bl, [si]
    mov cx, 6 * 512
    call same
    mov bl, 0x5a
    mov cx, 3 * 512
    call same
    mov bl, [BUFFER]
    mov cx, 9 * 512
    call same
    print "filler "
    mov al, [BUFFER]
    call hex
    call newline
    call key

    ; Another disk: the line of the drive shows it until the head has stepped.
    mov dx, 0x3f2
    mov al, 0x2d
    out dx, al
    mov dx, 0x3f7
    in al, dx
    and al, 0x80
    push ax
    print "changed "
    pop ax
    call hex
    call newline
    mov ax, 0x0201
    mov bx, BUFFER
    mov cx, 0x0001
    mov dx, 0x0001
    int 0x13
    jnc .read
    ; The first try may say that the disk is another.
    mov ax, 0x0201
    int 0x13
    jc failed
.read:
    mov byte [BUFFER + 8], 0
    mov si, BUFFER
    call say
    call newline
    jmp stop

; CX bytes at SI are BL.
same:
    lodsb
    cmp al, bl
    jne failed
    loop same
    ret

failed:
    mov al, ah
    call hex
    print " failed"
    call newline
    jmp stop

    times 36 * 512 - ($ - $$) db 0
