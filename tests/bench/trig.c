/* The x87's own sines, tangents, arctangents and logarithms, and a polynomial as a library has it. */
#include "guest.h"

#define ROUNDS 700000

static inline double sine(double x) { double y; __asm__("fsin" : "=t"(y) : "0"(x)); return y; }
static inline double cosine(double x) { double y; __asm__("fcos" : "=t"(y) : "0"(x)); return y; }
static inline double arctangent(double y, double x) { double z; __asm__("fpatan" : "=t"(z) : "0"(x), "u"(y) : "st(1)"); return z; }
static inline double logarithm(double x) { double z; __asm__("fyl2x" : "=t"(z) : "0"(x), "u"(1.0) : "st(1)"); return z; }

static double polynomial(double x)
{
    static const double factor[] = { -1.0 / 6, 1.0 / 120, -1.0 / 5040, 1.0 / 362880, -1.0 / 39916800, 1.0 / 6227020800.0 };
    double square = x * x, sum = 0;
    for (int i = 5; i >= 0; i--) sum = (sum + factor[i]) * square;
    return x + x * sum;
}

u32 work(void)
{
    double all = 0;
    for (int i = 1; i <= ROUNDS; i++) {
        double x = (double)(i % 1000) * 0.001;
        all += polynomial(x) * polynomial(1.0 - x) + polynomial(x * 0.5);
        if (i % 4 == 0) all += sine(x) * cosine(x) + arctangent(x, 1.5) + logarithm(1.0 + x);
    }
    return (u32)(int)(all * 100.0);
}
