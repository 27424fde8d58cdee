/* How often z = z z + c stays small, for many c: a chain of additions and multiplications with a comparison. */
#include "guest.h"

#define SIZE 600
#define MOST 250

u32 work(void)
{
    u32 sum = 0;
    for (int row = 0; row < SIZE; row++)
        for (int column = 0; column < SIZE; column++) {
            double a = column * (3.0 / SIZE) - 2.2, b = row * (2.6 / SIZE) - 1.3, x = 0, y = 0;
            int count = 0;
            while (count < MOST && x * x + y * y < 4.0) {
                double next = x * x - y * y + a;
                y = 2.0 * x * y + b;
                x = next;
                count++;
            }
            sum = mix(sum, (u32)count);
        }
    return sum;
}
