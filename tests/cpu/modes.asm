; The same functions in more modes than there are jump tables, in turn: a call through a register leads to code of the mode that runs. ES, FS
; and GS are flat or begin at 1000, DS and SS are flat or have a limit. What is shown is a hash of all that the functions have read.
;> hash: 887b9000
%include "harness.inc"

%macro choose 3                         ; A segment register, its bit in EBP, what it is loaded with where that is set
    mov eax, DATA0
    test ebp, 1 << %2
    jz %%flat
    mov eax, %3
%%flat:
    mov %1, ax
%endmacro

start:
    protected
    mov dword [gdt_slot1], 0x1000ffff   ; 1000, 4 GiB
    mov dword [gdt_slot1 + 4], 0x00cf9200
    mov dword [gdt_slot2], 0x0000ffff   ; 0, 1 MiB
    mov dword [gdt_slot2 + 4], 0x004f9200
    mov dword [0x20000], 1
    mov dword [0x21000], 2
    print "hash: "
    xor esi, esi
    mov edi, 6
rounds:
    mov ebp, 31
modes:
    choose es, 0, SLOT1
    choose fs, 1, SLOT1
    choose gs, 2, SLOT1
    choose ds, 3, SLOT2
    choose ss, 4, SLOT2
%assign number 0
%rep 8
    mov ebx, function %+ number
    call ebx
    imul esi, esi, 31
    add esi, ecx
%assign number number + 1
%endrep
    dec ebp
    jns modes
    dec edi
    jnz rounds
    mov eax, DATA0
    mov ds, ax
    mov es, ax
    mov ss, ax
    show esi
    done

%assign number 0
%rep 8
    align 16
function %+ number:
    mov ecx, [es:0x20000]
    shl ecx, 4
    add ecx, [fs:0x20000]
    shl ecx, 4
    add ecx, [gs:0x20000]
    add ecx, number << 12
    ret
%assign number number + 1
%endrep
