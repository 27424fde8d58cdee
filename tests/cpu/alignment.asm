; Alignment checks (Intel SDM vol. 3A, 6.15, interrupt 17): at level 3, with CR0.AM and EFLAGS.AC.
;> off: ok ok
;> on: ok #11 ok #11 #11 ok #11 ok #11 #11 ok
;> parts: ok #11 ok #11 #11
;> page: #11 #0e:0004@00030000
;> level 0: ok
;> user: #11 ok
%include "harness.inc"
%macro set_flag 0
    pushfd
    or dword [esp], 0x40000
    popfd
%endmacro
start:
    protected
    paging
    print "off: "
    user
    set_flag
    try mov eax, [0x20001]              ; AC without AM
    leave_user
    mov eax, cr0
    or eax, 0x40000
    mov cr0, eax
    user
    try mov eax, [0x20001]              ; AM without AC
    leave_user
    line
    print "on: "
    user
    set_flag
    try mov al, [0x20001]
    try mov ax, [0x20001]
    try mov ax, [0x20002]
    try mov eax, [0x20002]
    try mov [0x20003], eax
    try add dword [0x20004], 1
    try add dword [0x20005], 1
    try fld dword [0x20004]
    try fld qword [0x20004]             ; eight bytes want a multiple of 8
    try cmpxchg8b [0x20004]
    try cmpxchg8b [0x20008]
    leave_user
    line
    print "parts: "
    user
    set_flag
    mov word [0x20006], DATA3
    mov dword [0x20008], DATA3
    try les eax, [0x20004]
    try les eax, [0x20005]              ; a far pointer is aligned as its offset
    mov edi, 0x20000
    mov ecx, 2
    try stosd
    inc edi
    try stosd
    dec esp
    try push eax
    inc esp
    leave_user
    line
    print "page: "
    mov dword [TABLE + 0x30 * 4], 0
    invlpg [0x30000]
    user
    set_flag
    try mov eax, [0x30001]              ; comes before the page fault
    try mov eax, [0x30000]
    leave_user
    line
    print "level 0: "
    set_flag
    try mov eax, [0x20001]
    line
    print "user: "                      ; IRET brings the flag in, POPF takes it away
    mov [back_esp], esp
    push dword DATA3
    push dword 0x5000
    push dword 0x43002
    push dword CODE3
    push dword .user
    mov ax, DATA3
    mov ds, ax
    mov es, ax
    iretd
.user:
    try mov eax, [0x20001]
    pushfd
    and dword [esp], ~0x40000
    popfd
    try mov eax, [0x20001]
    leave_user
    done
