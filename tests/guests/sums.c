/* Prints sums of whole and floating-point numbers that any right compiler and processor agree on. */
#include <stdint.h>
#include <stdio.h>

int main(void)
{
    uint32_t mixed = 2463534242u;
    uint64_t wide = 0;
    double harmonic = 0;
    for (uint32_t i = 1; i <= 2000000; i++) {
        mixed ^= mixed << 13;
        mixed ^= mixed >> 17;
        mixed ^= mixed << 5;
        wide += (uint64_t)mixed * i / (i % 1000 + 1);
        harmonic += 1.0 / i;
    }
    printf("%08x %llu %.9f\n", mixed, (unsigned long long)wide, harmonic);
    return 0;
}
