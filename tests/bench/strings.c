/* REP SCAS and REP CMPS, and the string instructions without REP, as small C libraries use them. */
#include "guest.h"

#define SIZE (64 * 1024)
#define ROUNDS 3000

LARGE(u8, one, SIZE, 0x200000);
LARGE(u8, other, SIZE, 0x220000);

static u32 length(const u8 *text)
{
    u32 left = 0xffffffff;
    __asm__ volatile("repne scasb" : "+D"(text), "+c"(left) : "a"(0) : "memory", "cc");
    return ~left - 1;
}
static u32 equal(const u8 *a, const u8 *b, u32 count)
{
    u8 same;
    __asm__ volatile("repe cmpsb; sete %3" : "+S"(a), "+D"(b), "+c"(count), "=qm"(same) : : "memory", "cc");
    return same ? 0 : count + 1;
}
static u32 hash(const u8 *text, u32 count)
{
    u32 sum = 0;
    while (count--) {
        u8 byte;
        __asm__ volatile("lodsb" : "=a"(byte), "+S"(text) : : "memory");
        sum = mix(sum, byte);
    }
    return sum;
}

u32 work(void)
{
    u32 sum = 0, seed = 2;
    for (int i = 0; i < SIZE; i++) one[i] = other[i] = (u8)(next_random(&seed) % 255 + 1);
    one[SIZE - 1] = other[SIZE - 1] = 0;
    for (int i = 40; i < SIZE / 2; i += 40 + i % 13) one[i] = 0;
    for (int round = 0; round < ROUNDS; round++) {
        for (u32 at = 0; at < SIZE;) { u32 n = length(one + at); sum = mix(sum, n); at += n + 1; }
        for (u32 at = 1; at + 100 < SIZE; at += 97) sum = mix(sum, equal(one + at, other + at, 90));
        sum = mix(sum, equal(one + SIZE / 2 + 1, other + SIZE / 2 + 1, SIZE / 2 - 1));
        sum = mix(sum, hash(one, 8192));
    }
    return sum;
}
