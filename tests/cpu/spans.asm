; Instructions across pages that run often: the second page is mapped elsewhere, taken away, and written by another address.
;> warm: 44332211 44332211
;> moved: 88776611 44332211
;> reloaded: 88776611 44332211
;> absent: #0e@00021000 44332211
;> alias: 44339911
;> first: 0000002a 44339911
;> same: 00000000 abcdef11
;> loop: 000003e8 00000000
;> through: #0e@00023ffc 000003e8
%include "harness.inc"
%macro calls 0                          ; EAX is what the function leaves, the last time of many
    mov esi, 40
%%again:
    call edi
    dec esi
    jnz %%again
%endmacro
start:
    protected
    paging
    print "warm: "
    mov byte [0x20ffe], 0xb8            ; mov eax, 0x44332211 over two pages
    mov dword [0x20fff], 0x44332211
    mov byte [0x21003], 0xc3
    mov dword [0x24000], 0xc3887766     ; what it is with another second page
    mov edi, 0x20ffe
    calls
    show eax
    calls
    show eax
    line
    print "moved: "
    mov dword [TABLE + 0x21 * 4], 0x24007
    invlpg [0x21000]
    calls
    show eax
    mov dword [TABLE + 0x21 * 4], 0x21007
    invlpg [0x21000]
    calls
    show eax
    line
    print "reloaded: "
    mov dword [TABLE + 0x21 * 4], 0x24007
    mov eax, cr3
    mov cr3, eax
    calls
    show eax
    mov dword [TABLE + 0x21 * 4], 0x21007
    mov eax, cr3
    mov cr3, eax
    calls
    show eax
    line
    print "absent: "
    mov dword [TABLE + 0x21 * 4], 0
    invlpg [0x21000]
    try_function 0x20ffe
    mov dword [TABLE + 0x21 * 4], 0x21007
    calls
    show eax
    line
    print "alias: "
    mov dword [TABLE + 0x25 * 4], 0x21007
    invlpg [0x25000]
    mov byte [0x25000], 0x99
    calls
    show eax
    line
    print "first: "
    mov ecx, 0
    mov eax, 42
    mov byte [0x20ffe], 0xb9            ; mov ecx
    calls
    show eax
    show ecx
    line
    print "same: "
    ; Both pages are one: the function's end is at its own page's start.
    mov byte [0x20ffe], 0xb8
    mov dword [0x20000], 0xc3abcdef
    mov dword [TABLE + 0x21 * 4], 0x20007
    invlpg [0x21000]
    sub eax, eax
    show eax
    calls
    show eax
    line
    print "loop: "
    mov dword [TABLE + 0x21 * 4], 0x21007
    invlpg [0x21000]
    ; inc eax; dec ecx; jnz back, whose offset is over the page's end; ret
    mov byte [0x20ffb], 0x40
    mov byte [0x20ffc], 0x49
    mov word [0x20ffd], 0x850f
    mov dword [0x20fff], -8
    mov byte [0x21003], 0xc3
    mov edi, 0x20ffb
    sub eax, eax
    mov ecx, 1000
    call edi
    show eax
    show ecx
    line
    print "through: "
    ; One across pages that itself faults: mov eax, [0x23ffc].
    mov dword [0x21000], 0x23ffc
    mov byte [0x21004], 0xc3
    mov dword [0x23ffc], 0x3e8
    mov edi, 0x20fff
    mov byte [0x20fff], 0xa1
    calls
    mov dword [TABLE + 0x23 * 4], 0
    invlpg [0x23000]
    try_function 0x20fff
    mov dword [TABLE + 0x23 * 4], 0x23007
    calls
    show eax
    done
