; Faults in the delivery of a fault: which become a double fault, and the end of it all.
;> contributory: #08
;> page: #08 00c00000
;> benign: #0d:0069
;> [triple fault]
%include "harness.inc"
start:
    protected
    paging
    print "contributory: "
    mov byte [IDT + 13 * 8 + 5], 0x0e   ; #GP's gate is absent: #NP on the way makes #DF
    xor eax, eax
    mov es, ax
    fault_at .a0, .a
    mov dword [IDT + 8 * 8], CODE0 << 16 | (double - $$ + 0x8000)
.a0:
    mov eax, [es:0]
.a:
    line
    print "page: "
    mov byte [IDT + 14 * 8 + 5], 0x0e
    mov dword [resume], .b
    mov eax, [0xc00000]
.b:
    mov eax, cr2
    show eax
    line
    print "benign: "
    mov byte [IDT + 13 * 8 + 5], 0x8e
    mov word [IDT + 13 * 8 + 4], 0x8e00
    mov word [IDT + 6 * 8 + 2], 0x68
    fault_at .c0, .c
.c0:
    ud2                                 ; its gate leads to a selector beyond the GDT
.c:
    line
    mov byte [IDT + 13 * 8 + 5], 0x0e
    mov byte [IDT + 8 * 8 + 5], 0x0e
    mov eax, [es:0]
    print "not reached"
    done
double:
    ; The error code is zero and EIP means nothing.
    print "#08 "
    add esp, 4
    mov eax, [resume]
    mov [esp], eax
    iretd
