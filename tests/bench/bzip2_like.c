/* What bzip2 does: sort all rotations of a block, move to front, count, and code by frequency. Written anew. */
#include "guest.h"

#define BLOCK 60000
#define ROUNDS 30

LARGE(u8, text, 2 * BLOCK, 0x200000);
LARGE(u32, order, BLOCK, 0x240000);
LARGE(u32, rank, BLOCK, 0x280000);
LARGE(u32, other, BLOCK, 0x300000);
static u32 starts[BLOCK + 257];

static void make_text(u32 seed)
{
    for (u32 i = 0; i < BLOCK; i++) {
        u32 r = next_random(&seed);
        text[i] = i > 200 && r % 5 ? text[i - 1 - r % 97] : (u8)("etaoin shrdlu"[r % 13]);
    }
}

/* Sorts the rotations by doubling: rank by the first 1, 2, 4 … bytes, each time by counting. */
static void rotations(void)
{
    u32 classes = 256;
    for (u32 i = 0; i < BLOCK; i++) rank[i] = text[i], order[i] = i;
    for (u32 width = 0; width < BLOCK; width = width ? width * 2 : 1) {
        memset(starts, 0, (classes + 1) * sizeof *starts);
        for (u32 i = 0; i < BLOCK; i++) starts[rank[i] + 1]++;
        for (u32 i = 1; i <= classes; i++) starts[i] += starts[i - 1];
        for (u32 i = 0; i < BLOCK; i++) {
            u32 at = order[i] >= width ? order[i] - width : order[i] + BLOCK - width;
            other[starts[rank[at]]++] = at;
        }
        for (u32 i = 0; i < BLOCK; i++) order[i] = other[i];
        classes = 0;
        for (u32 i = 0; i < BLOCK; i++) {
            u32 a = order[i], b = i ? order[i - 1] : a, x = a + width, y = b + width;
            if (x >= BLOCK) x -= BLOCK;
            if (y >= BLOCK) y -= BLOCK;
            classes += i == 0 || rank[a] != rank[b] || rank[x] != rank[y];
            other[a] = classes - 1;
        }
        for (u32 i = 0; i < BLOCK; i++) rank[i] = other[i];
        if (classes == BLOCK) break;
    }
}

u32 work(void)
{
    u32 sum = 0;
    for (u32 round = 0; round < ROUNDS; round++) {
        make_text(round + 1);
        rotations();
        u8 front[256];
        u32 count[256] = { 0 };
        for (int i = 0; i < 256; i++) front[i] = (u8)i;
        for (u32 i = 0; i < BLOCK; i++) {
            u8 byte = text[(order[i] + BLOCK - 1) % BLOCK], place = 0;
            while (front[place] != byte) place++;
            for (u8 j = place; j > 0; j--) front[j] = front[j - 1];
            front[0] = byte;
            count[place]++;
            sum = mix(sum, place);
        }
        for (int i = 0; i < 256; i++) sum = mix(sum, count[i]);
    }
    return sum;
}
