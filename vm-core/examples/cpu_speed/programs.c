/* Guest programs of the speed measurement: plain integer work, 32-bit flat, no library.
   Each gives a number that says whether it was computed right. */
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;

static u8 bytes[1 << 16];
static u32 words[1 << 14];
static u32 table[256];

static u32 seed = 1;
static u32 next(void) { return seed = seed * 1664525 + 1013904223; }

static u32 sieve(void) {
    u32 count = 0;
    for (u32 round = 0; round < 200; round++) {
        count = 0;
        for (u32 i = 0; i < sizeof bytes; i++) bytes[i] = 1;
        for (u32 i = 2; i < sizeof bytes; i++)
            if (bytes[i]) {
                count++;
                for (u32 j = i + i; j < sizeof bytes; j += i) bytes[j] = 0;
            }
    }
    return count;
}

static u32 crc(void) {
    for (u32 i = 0; i < 256; i++) {
        u32 c = i;
        for (int k = 0; k < 8; k++) c = c & 1 ? 0xedb88320 ^ c >> 1 : c >> 1;
        table[i] = c;
    }
    for (u32 i = 0; i < sizeof bytes; i++) bytes[i] = i * 7;
    u32 c = ~0u;
    for (u32 round = 0; round < 200; round++)
        for (u32 i = 0; i < sizeof bytes; i++) c = table[(u8)(c ^ bytes[i])] ^ c >> 8;
    return ~c;
}

static u32 matrix(void) {
    enum { N = 60 };
    static u32 a[N][N], b[N][N], c[N][N];
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) a[i][j] = i + j, b[i][j] = i * j;
    u32 sum = 0;
    for (int round = 0; round < 80; round++) {
        for (int i = 0; i < N; i++)
            for (int j = 0; j < N; j++) {
                u32 s = 0;
                for (int k = 0; k < N; k++) s += a[i][k] * b[k][j];
                c[i][j] = s;
            }
        sum += c[round % N][7];
    }
    return sum;
}

static void sort(u32 *low, u32 *high) {
    while (low < high) {
        u32 pivot = low[(high - low) / 2];
        u32 *i = low, *j = high;
        while (i <= j) {
            while (*i < pivot) i++;
            while (*j > pivot) j--;
            if (i <= j) {
                u32 t = *i;
                *i++ = *j;
                *j-- = t;
            }
        }
        sort(low, j);
        low = i;
    }
}

static u32 quicksort(void) {
    u32 sum = 0;
    for (int round = 0; round < 25; round++) {
        for (u32 i = 0; i < 1 << 14; i++) words[i] = next();
        sort(words, words + (1 << 14) - 1);
        sum ^= words[100];
    }
    return sum;
}

__attribute__((noinline)) static u32 fib_of(u32 n) { return n < 2 ? n : fib_of(n - 1) + fib_of(n - 2); }
static u32 fib(void) { return fib_of(31); }

/* A state machine over text, as coremark has: calls, bytes, switches. */
__attribute__((noinline)) static u32 classify(const u8 **p, u32 *counts) {
    u32 state = 0;
    for (; **p && **p != ','; (*p)++) {
        u8 c = **p;
        switch (state) {
        case 0: state = c >= '0' && c <= '9' ? 1 : c == '+' || c == '-' ? 2 : c == '.' ? 3 : 6; break;
        case 1: state = c == '.' ? 3 : c >= '0' && c <= '9' ? 1 : 6; break;
        case 2: state = c >= '0' && c <= '9' ? 1 : c == '.' ? 3 : 6; break;
        case 3: state = c == 'e' || c == 'E' ? 4 : c >= '0' && c <= '9' ? 3 : 6; break;
        case 4: state = c == '+' || c == '-' ? 5 : 6; break;
        case 5: state = c >= '0' && c <= '9' ? 5 : 6; break;
        default: break;
        }
        counts[state]++;
    }
    if (**p) (*p)++;
    return state;
}

static u32 machine(void) {
    static const char text[] = "5012,+35.54,-874,.11e+7,T0.3e-1F,1.3e5,--7,-.1e-99,99999,3.14159,x,+1,";
    u32 counts[8] = {0}, sum = 0;
    for (int round = 0; round < 20000; round++) {
        const u8 *p = (const u8 *)text;
        while (*p) sum = sum * 31 + classify(&p, counts);
    }
    return sum ^ counts[3];
}

/* Scalar doubles: comparisons, branches, dependent multiplications. */
__attribute__((target("sse2,fpmath=sse"))) static u32 mandelbrot(void) {
    u32 sum = 0;
    for (int y = 0; y < 96; y++) {
        for (int x = 0; x < 128; x++) {
            double cr = x / 48.0 - 2.0, ci = y / 48.0 - 1.0, r = 0, i = 0;
            u32 n = 0;
            for (; n < 200 && r * r + i * i < 4.0; n++) {
                double t = r * r - i * i + cr;
                i = 2.0 * r * i + ci;
                r = t;
            }
            sum = sum * 31 + n;
        }
    }
    return sum;
}

/* Four singles at once, from and to memory. */
typedef float four __attribute__((vector_size(16)));
__attribute__((target("sse2,fpmath=sse"))) static u32 saxpy(void) {
    four *x = (four *)words, *y = x + 1024, a = {0.5f, 0.25f, 0.125f, 2.0f};
    for (u32 i = 0; i < 1024; i++) {
        x[i] = (four){i, i + 1, i + 2, i + 3};
        y[i] = (four){1, 2, 3, 4};
    }
    for (int round = 0; round < 2000; round++)
        for (u32 i = 0; i < 1024; i++) y[i] = y[i] * a + x[i];
    return ((u32 *)y)[1000] ^ ((u32 *)y)[3001];
}

u32 run(u32 which) {
    switch (which) {
    case 0: return sieve();
    case 1: return crc();
    case 2: return matrix();
    case 3: return quicksort();
    case 4: return fib();
    case 5: return machine();
    case 6: return mandelbrot();
    default: return saxpy();
    }
}

__asm__(".globl _start\n.section .text.start\n_start: push %eax\ncall run\nhlt\n.text");
