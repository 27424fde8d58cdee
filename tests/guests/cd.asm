; A CD that is changed under a program: the drive at 0x170 by PIO packets, without BIOS.
; MMC-3: UNIT ATTENTION after a change, PREVENT ALLOW MEDIUM REMOVAL, GET EVENT STATUS NOTIFICATION.

%include "boot.inc"

COMMAND equ 0x170
BUFFER equ 0xd000

main:
    ; No interrupts from the drive.
    mov dx, 0x376
    mov al, 2
    out dx, al
    call ready
    call label
    call key

    ; Another disc is in: the drive says so once.
    call ready
    call label

    ; Locked, and the person wants it: let go and open the tray.
    mov si, prevent
    call packet
    jc failed
    print "locked"
    call newline
.ask:
    mov si, events
    call packet
    jc failed
    cmp byte [BUFFER + 4], 1
    jne .ask
    print "eject request"
    call newline
    mov si, allow
    call packet
    jc failed
    mov si, open
    call packet
    jc failed
    print "opened"
    call newline
    call key

    ; The third disc.
    call ready
    call label
    jmp stop

failed:
    print "failed"
    call newline
    jmp stop

; Waits for a disc, and prints each new reason why there is none: sense key, code, qualifier.
ready:
    mov si, test_unit
    call packet
    jnc .done
    mov si, sense
    call packet
    jc failed
    mov al, [BUFFER + 2]
    mov ah, [BUFFER + 12]
    cmp ax, [last]
    je ready
    mov [last], ax
    print "sense "
    mov al, [BUFFER + 2]
    call hex
    mov al, [BUFFER + 12]
    call hex
    mov al, [BUFFER + 13]
    call hex
    call newline
    jmp ready
.done:
    mov word [last], 0
    ret

; Prints the name of the volume (ISO 9660, 8.4.7).
label:
    mov si, read
    call packet
    jc failed
    print "disc "
    mov si, BUFFER + 40
    mov cx, 32
.letter:
    lodsb
    cmp al, ' '
    jbe .end
    out 0xe9, al
    loop .letter
.end:
    call newline
    ret

; Sends the packet at SI; data goes to BUFFER. Carry: the drive said no.
packet:
    pusha
    call idle
    mov dx, COMMAND + 6
    mov al, 0xa0
    out dx, al
    mov dx, COMMAND + 1
    xor al, al
    out dx, al
    mov dx, COMMAND + 4
    out dx, al
    inc dx
    mov al, 8
    out dx, al
    mov dx, COMMAND + 7
    mov al, 0xa0
    out dx, al
    call idle
    mov dx, COMMAND
    mov cx, 6
.word:
    outsw
    loop .word
    mov di, BUFFER
.data:
    call idle
    test al, 1
    jnz .no
    test al, 8
    jz .yes
    mov dx, COMMAND + 4
    in al, dx
    mov cl, al
    inc dx
    in al, dx
    mov ch, al
    inc cx
    shr cx, 1
    mov dx, COMMAND
    rep insw
    jmp .data
.yes:
    popa
    clc
    ret
.no:
    popa
    stc
    ret

; Waits for the end of BSY; AL is the status.
idle:
    mov dx, COMMAND + 7
    in al, dx
    test al, 0x80
    jnz idle
    ret

last: dw 0
test_unit: times 12 db 0
sense:     db 0x03, 0, 0, 0, 18, 0, 0, 0, 0, 0, 0, 0
read:      db 0x28, 0, 0, 0, 0, 16, 0, 0, 1, 0, 0, 0
prevent:   db 0x1e, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0
allow:     db 0x1e, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
events:    db 0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8, 0, 0, 0
open:      db 0x1b, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0

    times 36 * 512 - ($ - $$) db 0
