; High resolutions through the VESA BIOS: the list of modes, one reached bank by bank, one linearly.
; VBE Core Functions Standard 3.0.

%include "boot.inc"

INFO equ 0x5000
MODE equ 0x5400

main:
    ; Every mode: its size, bits a pixel, attributes, granularity of the window in KiB.
    mov di, INFO
    mov dword [di], 'VBE2'
    mov ax, 0x4f00
    int 0x10
    cmp ax, 0x004f
    jne failed
    lfs si, [INFO + 0x0e]
.next:
    mov cx, [fs:si]
    add si, 2
    cmp cx, 0xffff
    je .listed
    push si
    mov di, MODE
    mov ax, 0x4f01
    int 0x10
    pop si
    cmp ax, 0x004f
    jne .next
    movzx eax, word [MODE + 0x12]
    call number
    mov al, 'x'
    out 0xe9, al
    movzx eax, word [MODE + 0x14]
    call number
    mov al, 'x'
    out 0xe9, al
    movzx eax, byte [MODE + 0x19]
    call number
    print " attributes "
    mov al, [MODE]
    call hex
    print " window "
    movzx eax, word [MODE + 4]
    call number
    call newline
    cmp dword [MODE + 0x12], 1200 << 16 | 1920
    jne .next
    cmp byte [MODE + 0x19], 32
    jne .next
    mov [large], cx
    mov eax, [MODE + 0x28]
    mov [base], eax
    mov ax, [MODE + 0x10]
    mov [pitch], ax
    jmp .next
.listed:
    print "listed"
    call newline

    ; 640 × 480 in 256 colours, through the window: byte n is n ^ n >> 8 ^ 37 · (n >> 16).
    mov ax, 0x4f02
    mov bx, 0x0101
    int 0x10
    cmp ax, 0x004f
    jne failed
    call palette
    mov ax, 0xa000
    mov es, ax
    xor bp, bp
.bank:
    call set_bank
    mov ax, bp
    mov bl, 37
    mul bl
    mov bl, al
    xor di, di
.byte:
    mov ax, di
    xor al, ah
    xor al, bl
    stosb
    test di, di
    jnz .byte
    inc bp
    cmp bp, 5
    jne .bank
    ; What stands in the third bank is still there.
    mov bp, 2
    call set_bank
    cmp byte [es:0x1234], 0x12 ^ 0x34 ^ 2 * 37
    jne failed
    print "banked"
    call newline
    call key

    ; The same memory from its 10th line and 8th pixel on.
    mov ax, 0x4f07
    xor bx, bx
    mov cx, 8
    mov dx, 10
    int 0x10
    cmp ax, 0x004f
    jne failed
    print "moved"
    call newline
    call key

    ; 1920 × 1200 in true colour, linearly: blue is x, green is y, red is (x + y) >> 4.
    mov ax, 0x4f02
    mov bx, [large]
    or bx, 0x4000
    int 0x10
    cmp ax, 0x004f
    jne failed
    cli
    lgdt [gdt_register]
    mov eax, cr0
    or al, 1
    mov cr0, eax
    mov bx, 8
    mov fs, bx
    and al, 0xfe
    mov cr0, eax
    sti
    mov edi, [base]
    xor edx, edx
.line:
    mov esi, edi
    xor ecx, ecx
.pixel:
    lea eax, [ecx + edx]
    shr eax, 4
    shl eax, 16
    mov ah, dl
    mov al, cl
    mov [fs:esi], eax
    add esi, 4
    inc ecx
    cmp ecx, 1920
    jne .pixel
    movzx eax, word [pitch]
    add edi, eax
    inc edx
    cmp edx, 1200
    jne .line
    print "linear"
    call newline
    call key
    jmp stop

failed:
    print "failed"
    call newline
    jmp stop

; Window A to bank BP.
set_bank:
    mov ax, 0x4f05
    xor bx, bx
    mov dx, bp
    int 0x10
    cmp ax, 0x004f
    jne failed
    ret

; Entry n: red n >> 2, green 16 · (n & 3), no blue.
palette:
    mov dx, 0x3c8
    xor al, al
    out dx, al
    inc dx
    xor cx, cx
.entry:
    mov al, cl
    shr al, 2
    out dx, al
    mov al, cl
    and al, 3
    shl al, 4
    out dx, al
    xor al, al
    out dx, al
    inc cl
    jnz .entry
    ret

large: dw 0
pitch: dw 0
base: dd 0

    align 8
gdt: dq 0, 0x00cf92000000ffff
gdt_register: dw 15
    dd gdt

    times 36 * 512 - ($ - $$) db 0
