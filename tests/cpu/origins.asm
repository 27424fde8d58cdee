; A program's code at several addresses, as libraries are: the same page mapped thrice, with another page behind it at one place.
;> where: 00020fb4 00300fb4 00340fb4 00020fb4
;> sums: 00000028 00000028 00000050 00000028 00000028 00000050
;> pointers: 0000002a 0000002a 0000002b
;> tables: 00021000 00301000 00341000
;> pushed: 00000055 00000055 00000055
;> faults: #0e:0004@00041000 #0e:0004@00041000 #0e:0004@00041000 ok
;> words: 00000028 00000ffd
;> written: 00000078 00000078 0000002c 0000002d
%include "harness.inc"
HERE equ 0x20000
MANY equ 40
%macro everywhere 1                     ; Calls a function of the library at each of its places, and shows EAX.
    %assign %%place HERE
    %rep 3
    mov edi, %%place + %1 - library + OFFSET
    call many
    show eax
    %if %%place == HERE
    %assign %%place 0x300000
    %else
    %assign %%place 0x340000
    %endif
    %endrep
%endmacro
start:
    protected
    paging
    ; The library, so that its second half begins a page; and a copy of that half that adds two.
    mov esi, library
    mov edi, HERE + OFFSET
    mov ecx, library_end - library
    rep movsb
    mov esi, HERE + 0x1000
    mov edi, HERE + 0x2000
    mov ecx, 0x1000
    rep movsb
    mov byte [HERE + 0x2000 + one.by - second], 2
    mov dword [TABLE + 0x300 * 4], HERE + 7
    mov dword [TABLE + 0x301 * 4], HERE + 0x1007
    mov dword [TABLE + 0x340 * 4], HERE + 7
    mov dword [TABLE + 0x341 * 4], HERE + 0x2007
    absent 0x41
    user
    print "where: "
    everywhere where
    mov edi, HERE + where - library + OFFSET
    call many
    show eax
    line
    print "sums: "
    everywhere sum
    everywhere sum
    line
    print "pointers: "
    everywhere through_pointer
    line
    print "tables: "
    everywhere through_table
    line
    print "pushed: "
    everywhere pushes
    line
    print "faults: "
    mov ebp, 0x50000
    mov edi, HERE + load - library + OFFSET
    call many
    mov ebp, 0x41000
    try_function HERE + load - library + OFFSET
    mov edi, 0x300000 + load - library + OFFSET
    try_function 0x300000 + load - library + OFFSET
    mov edi, 0x340000 + load - library + OFFSET
    try_function 0x340000 + load - library + OFFSET
    mov ebp, 0x50000
    call many
    print "ok "
    line
    print "words: "
    mov edi, 0x300000 + words - library + OFFSET
    mov esi, MANY
    sub ebx, ebx
.words:
    mov [kept], esp
    call edi
.word:
    mov esp, [kept]
    dec esi
    jnz .words
    show ebx
    mov edi, 0x340000 + word_call - library + OFFSET
    mov esi, MANY
.calls:
    mov [kept], esp
    call edi
.called:
    pop ax
    mov esp, [kept]
    dec esi
    jnz .calls
    movzx eax, ax
    show eax
    line
    print "written: "
    ; One place writes code that another has run.
    mov edi, 0x300000 + sum - library + OFFSET
    call many
    mov byte [HERE + 0x1000 + one.by - second], 3
    call many
    show eax
    mov edi, HERE + sum - library + OFFSET
    call many
    show eax
    ; And a target of pointers.
    mov edi, HERE + through_pointer - library + OFFSET
    call many
    call many
    show eax
    mov byte [0x300000 + 0x1000 + one.by - second], 4
    call edi
    show eax
    leave_user
    done
; Calls the function at EDI often.
many:
    mov esi, MANY
.again:
    call edi
    dec esi
    jnz .again
    ret

kept: dd 0

; What is copied: nothing in it says where it is.
OFFSET equ 0x1000 - (second - library)
    align 64
library:
; Where it is.
where:
    call .next
.next:
    pop eax
    ret
; The sum of MANY calls of another page, and a jump there and back.
sum:
    mov ecx, MANY
    sub eax, eax
.again:
    call one
    jmp there
.back:
    dec ecx
    jnz .again
    ret
; By a pointer that is found from where it is.
through_pointer:
    call where
    lea edx, [eax + one - where.next]
    mov eax, 41
    call edx
    ret
; By a jump whose table holds distances.
through_table:
    call where
    add eax, second - where.next
    mov edx, eax
    lea edx, [edx + tail - second]
    jmp edx
load:
    mov edx, [ebp]
    ret
; Jumps and calls of 16 bits, which lead to the first 64 KiB.
words:
    inc ebx
    test ebx, ebx
    db 0x66, 0x0f, 0x84                 ; jz
    dw 0
    db 0x66, 0x0f, 0x85                 ; jnz
    dw (start.word - $$ + 0x8000) - (words.next - library + OFFSET)
.next:
    hlt
word_call:
    db 0x66, 0xe8
    dw (start.called - $$ + 0x8000) - (word_call.next - library + OFFSET)
.next:
    hlt
; What it pushes ends the first page.
pushes:
    push strict byte 0x55
second:
    pop eax
    ret
one:
    add eax, strict byte 1
.by equ $ - 1
    ret
there:
    jmp sum.back
tail:
    ret
library_end:
