; A guest that knows when memory and disk do not belong together.
;
; It counts. Each count stands in memory, far apart, and on the disk; before it counts on it compares them all. At a difference it leaves
; through isa-debug-exit (port 0xF4): 1 memory does not agree with itself, 2 the disk is of another moment, 3 the BIOS failed.
bits 16
org 0x7c00

COUNT   equ 0x600
DRIVE   equ 0x604
PACKET  equ 0x610
BUFFER  equ 0x8000
HEAD    equ 15

        xor     ax, ax
        mov     ds, ax
        mov     ss, ax
        mov     sp, 0x7c00
        mov     [DRIVE], dl
        mov     dword [COUNT], 0
        xor     eax, eax
        call    put_far

next:   mov     eax, [COUNT]
        mov     bx, 0x1000
.far:   mov     es, bx
        mov     cl, 1
        cmp     [es:0x10], eax
        jne     bad
        add     bx, 0x1000
        cmp     bx, 0x9000
        jb      .far
        test    eax, eax
        jz      .count
        mov     dword [PACKET + 8], HEAD
        mov     ah, 0x42
        call    disk
        mov     eax, [COUNT]
        mov     cl, 2
        cmp     [BUFFER], eax
        jne     bad

.count: inc     dword [COUNT]
        mov     eax, [COUNT]
        call    put_far
        xor     bx, bx
        mov     es, bx
        mov     di, BUFFER
        mov     cx, 128
        cld
        rep     stosd
        and     eax, 1023
        add     eax, 16
        mov     [PACKET + 8], eax
        mov     ax, 0x4300
        call    disk
        mov     dword [PACKET + 8], HEAD
        mov     ax, 0x4300
        call    disk
        jmp     next

put_far:
        mov     bx, 0x1000
.put:   mov     es, bx
        mov     [es:0x10], eax
        add     bx, 0x1000
        cmp     bx, 0x9000
        jb      .put
        ret

; INT 13h with the packet: one sector at BUFFER.
disk:   mov     word [PACKET], 16
        mov     word [PACKET + 2], 1
        mov     word [PACKET + 4], BUFFER
        mov     word [PACKET + 6], 0
        mov     dword [PACKET + 12], 0
        mov     dl, [DRIVE]
        mov     si, PACKET
        int     0x13
        mov     cl, 3
        jc      bad
        ret

bad:    mov     al, cl
        out     0xf4, al
        hlt

        times   510 - ($ - $$) db 0
        dw      0xaa55
