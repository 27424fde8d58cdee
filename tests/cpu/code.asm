; Code that changes itself: the next instruction, one across pages, through an alias, by a string instruction.
;> next: 00000002
;> loop: 0000000a
;> rep: 00000007
;> alias: 00000005
;> across: 44332211 44339911
;> return: 00000009
%include "harness.inc"
start:
    protected
    paging
    print "next: "
    mov eax, 1
    mov byte [.imm + 1], 2
.imm:
    mov al, 1
    show eax
    line
    print "loop: "
    xor ebx, ebx
    mov ecx, 4
.again:
.add:
    add ebx, byte 1
    inc byte [.add + 2]
    loop .again
    show ebx
    line
    print "rep: "
    mov edi, .patched
    mov ecx, 5
    mov al, 0x90
    mov ebx, 7
    rep stosb
.patched:
    mov ebx, 1
    show ebx
    line
    print "alias: "
    mov dword [TABLE + 0x80 * 4], 0x8007 ; the image's page again
    lea edi, [.aliased + 1 + 0x80000 - 0x8000]
    mov eax, TABLE
    cmp dword [.aliased + 1], 3
    mov ecx, .aliased
    shr ecx, 12
    shl ecx, 12
    mov eax, ecx
    or eax, 7
    mov [TABLE + 0x80 * 4], eax
    invlpg [0x80000]
    mov edi, .aliased + 1
    sub edi, ecx
    add edi, 0x80000
    mov byte [edi], 5
.aliased:
    mov ebx, 3
    show ebx
    line
    print "across: "
    mov byte [0x20ffe], 0xb8            ; mov eax, 0x44332211 over two pages
    mov dword [0x20fff], 0x44332211
    mov byte [0x21003], 0xc3
    mov edi, 0x20ffe
    call edi
    show eax
    mov byte [0x21000], 0x99            ; the part on the second page
    call edi
    show eax
    line
    print "return: "
    ; A call that rewrites what follows it.
    call .rewrite
.after:
    mov ebx, 1
    show ebx
    done
.rewrite:
    mov byte [.after + 1], 9
    ret
