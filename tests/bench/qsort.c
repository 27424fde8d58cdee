/* Quicksort through a comparison that is called, as the C library's is. */
#include "guest.h"

#define COUNT 100000
#define ROUNDS 20

LARGE(u32, numbers, COUNT, 0x200000);

static int by_value(const void *a, const void *b)
{
    u32 x = *(const u32 *)a, y = *(const u32 *)b;
    return x < y ? -1 : x > y;
}

static void sort(u32 *from, u32 *to, int (*volatile compare)(const void *, const void *))
{
    while (to - from > 12) {
        u32 pivot = from[(to - from) / 2], *low = from, *high = to - 1;
        while (low <= high) {
            while (compare(low, &pivot) < 0) low++;
            while (compare(high, &pivot) > 0) high--;
            if (low <= high) { u32 other = *low; *low++ = *high; *high-- = other; }
        }
        if (high - from < to - low) { sort(from, high + 1, compare); from = low; }
        else { sort(low, to, compare); to = high + 1; }
    }
    for (u32 *at = from + 1; at < to; at++)
        for (u32 *p = at; p > from && compare(p - 1, p) > 0; p--) { u32 other = p[-1]; p[-1] = *p; *p = other; }
}

u32 work(void)
{
    u32 seed = 5, sum = 0;
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < COUNT; i++) numbers[i] = next_random(&seed);
        sort(numbers, numbers + COUNT, by_value);
        for (int i = 0; i < COUNT; i += 7) sum = mix(sum, numbers[i]);
    }
    return sum;
}
