; Segment registers that are loaded again between two accesses of one block: the second access is checked as the segment is then. What is
; shown is what the last access read: EAX and EDX are the selectors, the first access reads at 100.
;> smaller: #0d 00000011 #0d 00000011 #0d 00000011
;> read-only: #0d 00000011 #0d 00000011 #0d 00000011
;> writable: ok 00000011 ok 00000011 ok 00000011
;> null: #0d 00000011 #0d 00000011 #0d 00000011
;> from flat: #0d 00000055 #0d 00000055 #0d 00000055
;> to flat: ok 00000044 ok 00000044 ok 00000044
;> base: ok 00000033 ok 00000033 ok 00000033
;> from the stack: #0d 00000011 #0d 00000011 #0d 00000011
;> end
%include "harness.inc"

%macro load_second 0
    mov es, dx
%endmacro

%macro pop_second 0
    push edx
    pop es
%endmacro

; Name, the selectors, how the second one is loaded, the second access.
%macro within 5
    print %1
    mov ebp, 3
%%again:
    mov eax, %2
    mov edx, %3
    fault_at %%here, %%after
    jmp %%now
%%now:
    mov es, ax
    mov ecx, [es:0x100]
    %4
%%here:
    %5
    print "ok "
%%after:
    show ecx
    dec ebp
    jnz %%again
    line
%endmacro

start:
    protected
    mov dword [gdt_slot1], 0x00000fff   ; 20000, 4 KiB
    mov dword [gdt_slot1 + 4], 0x00409202
    mov dword [gdt_slot2], 0x000007ff   ; half of it
    mov dword [gdt_slot2 + 4], 0x00409202
    mov dword [gdt_slot3], 0x00000fff   ; read-only
    mov dword [gdt_slot3 + 4], 0x00409002
    mov dword [gdt_slot4], 0x10000fff   ; 21000
    mov dword [gdt_slot4 + 4], 0x00409202
    mov dword [0x100], 0x55
    mov dword [0x20100], 0x11
    mov dword [0x20ffc], 0x44
    mov dword [0x21000], 0x33
    within "smaller: ", SLOT1, SLOT2, load_second, {mov ecx, [es:0xffc]}
    within "read-only: ", SLOT1, SLOT3, load_second, {mov [es:0x100], ebp}
    within "writable: ", SLOT3, SLOT1, load_second, {mov [es:0x104], ecx}
    within "null: ", SLOT1, 0, load_second, {mov ecx, [es:0x100]}
    within "from flat: ", DATA0, SLOT2, load_second, {mov ecx, [es:0xffc]}
    within "to flat: ", SLOT2, DATA0, load_second, {mov ecx, [es:0x20ffc]}
    within "base: ", SLOT1, SLOT4, load_second, {mov ecx, [es:0]}
    within "from the stack: ", SLOT1, SLOT2, pop_second, {mov ecx, [es:0xffc]}
    print "end"
    done
