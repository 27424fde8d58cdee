; Exceptions through task gates: the old task is saved, the new one sees its back link, NT and the error code; IRET goes back.
;> divide: 00000028 00004000 back 00000000 00004242
;> again: 00001000 back 00000000
%include "harness.inc"
OTHER equ 0x16000
start:
    protected
    mov edi, OTHER
    mov ecx, 0x68 / 4
    xor eax, eax
    rep stosd
    mov dword [OTHER + 0x20], handler
    mov dword [OTHER + 0x24], 2
    mov dword [OTHER + 0x38], 0x3000
    mov dword [OTHER + 0x48], DATA0
    mov dword [OTHER + 0x4c], CODE0
    mov dword [OTHER + 0x50], DATA0
    mov dword [OTHER + 0x54], DATA0
    mov dword [OTHER + 0x64], 0x680000
    mov dword [gdt_slot1], 0x60000067
    mov dword [gdt_slot1 + 4], 0x00008901
    mov dword [IDT], SLOT1 << 16
    mov dword [IDT + 4], 0x8500
    mov dword [IDT + 13 * 8], SLOT1 << 16
    mov dword [IDT + 13 * 8 + 4], 0x8500
    print "divide: "
    mov dword [resume], .divided
    mov ebx, 0x4242
    xor ecx, ecx
    div ecx
.divided:
    print "back "
    pushfd
    pop eax
    and eax, 0x4000
    show eax
    show ebx
    line
    print "again: "
    mov dword [resume], .failed
    mov ax, 0x1000
    mov es, ax
.failed:
    print "back "
    show [OTHER + 0x60]
    done
handler:
    movzx eax, word [OTHER]
    show eax
    pushfd
    pop eax
    and eax, 0x4000
    show eax
    mov eax, [resume]
    mov [TASK + 0x20], eax
    mov ebx, 7
    iretd
    ; The second time it goes on here, with an error code on its stack.
    pop eax
    show eax
    mov eax, [resume]
    mov [TASK + 0x20], eax
    iretd
