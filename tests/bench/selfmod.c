/* Code that writes code: an immediate changed before each run, small functions made anew, and data beside code. */
#include "guest.h"

#define ROUNDS 300000

#ifdef NATIVE
void *mmap(void *, u32, int, int, int, int);
static u8 *page(void) { return mmap(0, 8192, 7, 0x22, -1, 0); }
#else
static u8 *page(void) { return (u8 *)0x200000; }
#endif

u32 work(void)
{
    u8 *code = page();
    u32 sum = 1, seed = 4;
    for (u32 round = 0; round < ROUNDS; round++) {
        /* mov eax, [esp + 4]; add eax, imm32; xor eax, imm32; ret */
        static const u8 body[] = { 0x8b, 0x44, 0x24, 4, 0x05, 0, 0, 0, 0, 0x35, 0, 0, 0, 0, 0xc3 };
        u32 at = round % 8 * 64;
        if (round < 8 || round % 16 == 0) memcpy(code + at, body, sizeof body);
        *(volatile u32 *)(code + at + 5) = next_random(&seed);
        if (code[at] != 0x8b) memcpy(code + at, body, sizeof body);
        for (int i = 0; i < 4; i++) sum = ((u32 (*)(u32))(code + at))(sum) + 1;
        *(volatile u32 *)(code + 4096 - 64) += sum;
    }
    return sum;
}
