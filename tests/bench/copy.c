/* Moves and fills of memory: words in a loop, and the string instructions in short and long runs. */
#include "guest.h"

#define SIZE (256 * 1024)
#define ROUNDS 1500

LARGE(u32, one, SIZE / 4, 0x200000);
LARGE(u32, other, SIZE / 4, 0x280000);

static void move(void *to, const void *from, u32 words) { __asm__ volatile("rep movsl" : "+D"(to), "+S"(from), "+c"(words) : : "memory"); }
static void move_bytes(void *to, const void *from, u32 count) { __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(count) : : "memory"); }
static void fill(void *to, u32 value, u32 words) { __asm__ volatile("rep stosl" : "+D"(to), "+c"(words) : "a"(value) : "memory"); }

u32 work(void)
{
    u32 sum = 0;
    for (int round = 0; round < ROUNDS; round++) {
        fill(one, (u32)round * 0x01010101u, SIZE / 4);
        for (int i = 0; i < SIZE / 4; i += 16) one[i] = (u32)i;
        move(other, one, SIZE / 4);
        if (round % 4 == 0)
            for (int i = 0; i < SIZE / 4; i++) one[i] = other[SIZE / 4 - 1 - i];
        for (int i = 0; i < 2000; i++) move_bytes((u8 *)one + i * 64, (u8 *)other + i * 61, 7 + (u32)i % 40);
        sum = mix(sum, one[round * 37] + other[round * 41]);
    }
    return sum;
}
