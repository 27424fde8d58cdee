; REP MOVS and REP STOS where they begin and end near the edges of pages, and what stands there is not what it was.
;> moves: 00000000 00000000
;> stores: 00000000
;> nothing: 00020000 00030000 00000000
;> overlap: 07070707 01020307 05060708
;> down: 00000003 0002ffff 0003ffff
;> absent: #0e:0002@00041000 00000003 00041000 00020014 #0e:0002@00041000 00000003 00041000 00020014 #0e:0002@00041000 00000003 00041000 00020014
;> other page: 00000001 00000002 00000001 00000002
;> own code: 00000011 00000022 00000033
;> the last byte: 00000000 aa000000
%include "harness.inc"
start:
    protected
    paging
    call fill
    print "moves: "
    ; All lengths to 70 at ends of pages, bytes and words of four; each is compared with what a loop does.
    mov dword [wrong], 0
    mov ebp, 70
.lengths:
    lea esi, [ebp * 3 + 0x20f00]
    mov edi, 0x30fd0
    mov ecx, ebp
    rep movsb
    lea eax, [ebp * 4 + 0x20f00]
    call compare
    lea esi, [ebp * 3 + 0x20f00]
    lea edi, [ebp * 2 + 0x30f60]
    mov ecx, ebp
    rep movsd
    dec ebp
    jnz .lengths
    show [wrong]
    mov ebp, 70
.again:
    lea esi, [ebp * 3 + 0x20f00]
    mov edi, 0x30fd0
    mov ecx, ebp
    rep movsd
    lea eax, [ebp * 4]
    lea esi, [ebp * 3 + 0x20f00]
    mov edi, 0x30fd0
    mov ecx, eax
    repe cmpsb
    je .same
    inc dword [wrong]
.same:
    dec ebp
    jnz .again
    show [wrong]
    line

    print "stores: "
    mov ebp, 40
.fills:
    lea edi, [ebp * 2 + 0x30fa0]
    mov ecx, ebp
    mov eax, ebp
    imul eax, 0x01010101
    rep stosd
    lea edi, [ebp * 2 + 0x30fa0]
    mov ecx, ebp
    repe scasd
    je .filled
    inc dword [wrong]
.filled:
    dec ebp
    jnz .fills
    show [wrong]
    line

    print "nothing: "
    mov edx, 3
.zero:
    mov esi, 0x20000
    mov edi, 0x30000
    xor ecx, ecx
    rep movsb
    dec edx
    jnz .zero
    show esi
    show edi
    show ecx
    line

    print "overlap: "
    mov edx, 3
.overlaps:
    mov dword [0x30000], 0x05060707
    mov dword [0x30004], 0x01020304
    mov dword [0x30008], 0x05060708
    mov esi, 0x30000
    mov edi, 0x30001
    mov ecx, 4
    rep movsb
    dec edx
    jnz .overlaps
    show [0x30000]
    show [0x30004]
    show [0x30008]
    line

    print "down: "
    mov edx, 3
.downs:
    mov esi, 0x30002
    mov edi, 0x40002
    mov ecx, 3
    std
    rep movsb
    cld
    dec edx
    jnz .downs
    mov ecx, 3
    show ecx
    show esi
    show edi
    line

    absent 0x41
    print "absent: "
    mov ebp, 3
.absent:
    mov esi, 0x20000
    mov edi, 0x40fec
    mov ecx, 8
    fault_at .move, .faulted
.move:
    rep movsd
.faulted:
    show ecx
    show edi
    show esi
    dec ebp
    jnz .absent
    line

    ; The same linear page leads elsewhere after CR3 was loaded.
    print "other page: "
    mov dword [0x50000], 1
    mov dword [0x51000], 2
    mov ebp, 4
.other:
    mov eax, [TABLE + 0x60 * 4]
    and eax, 0xfff
    or eax, 0x50000
    test ebp, 1
    jz .first
    or eax, 0x51000
.first:
    mov [TABLE + 0x60 * 4], eax
    mov eax, cr3
    mov cr3, eax
    mov esi, 0x60000
    mov edi, 0x30000
    mov ecx, 1
    rep movsd
    show [0x30000]
    dec ebp
    jnz .other
    line

    ; What is written is the immediate of the next instruction.
    print "own code: "
    mov ebp, 3
    mov dword [0x30000], 0x11
.patch:
    mov esi, 0x30000
    mov edi, .own + 1
    mov ecx, 4
    rep movsb
.own:
    mov eax, 0x77777777
    show eax
    add dword [0x30000], 0x11
    dec ebp
    jnz .patch
    line

    ; The index behind the last byte of all addresses is zero.
    print "the last byte: "
    mov dword [DIRECTORY + 0x3ff * 4], TABLE2 | 3
    mov dword [TABLE2 + 0x3ff * 4], 0x70003
    mov eax, cr3
    mov cr3, eax
    mov ebp, 3
.last:
    mov edi, 0xffffffff
    mov ecx, 1
    mov al, 0xaa
    rep stosb
    dec ebp
    jnz .last
    show edi
    show [0x70ffc]
    done

TABLE2 equ 0x71000

; Numbers at 20000 to 22000 and zeros at 30000 to 32000.
fill:
    mov edi, 0x20000
.more:
    imul eax, edi, 0x9e3779b1
    shr eax, 13
    mov [edi], al
    inc edi
    cmp edi, 0x22000
    jne .more
    ret

; Adds one to `wrong` unless EBP bytes at 30FD0 are those at EBP * 3 + 20F00, read one by one.
compare:
    xor ecx, ecx
    lea esi, [ebp * 3 + 0x20f00]
.more:
    mov al, [esi + ecx]
    cmp al, [ecx + 0x30fd0]
    je .same
    inc dword [wrong]
.same:
    inc ecx
    cmp ecx, ebp
    jne .more
    ret

wrong: dd 0
