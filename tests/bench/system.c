/* What programs ask of an operating system, each kind for itself: the first process of a Linux guest, or a program of the host.
   The host stamps the lines. Names of tasks as arguments leave out the others. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static unsigned mix(unsigned sum, unsigned word) { return ((sum << 5 | sum >> 27) ^ word) * 0x9e3779b1u; }

static void check(int good, const char *what)
{
    if (!good) { printf("failed %s\n", what); exit(1); }
}

static unsigned syscalls(void)
{
    unsigned sum = 0;
    for (int i = 0; i < 600000; i++) sum = mix(sum, (unsigned)(syscall(SYS_getppid) >= 0));
    return sum;
}

static unsigned pipes(void)
{
    int to[2], from[2];
    check(!pipe(to) && !pipe(from), "pipe");
    pid_t child = fork();
    check(child >= 0, "fork");
    unsigned char text[512];
    if (!child) {
        close(to[1]);
        for (ssize_t n; (n = read(to[0], text, sizeof text)) > 0;) { text[0]++; check(write(from[1], text, (size_t)n) == n, "write"); }
        _exit(0);
    }
    unsigned sum = 0;
    memset(text, 7, sizeof text);
    for (int i = 0; i < 40000; i++) {
        check(write(to[1], text, sizeof text) == sizeof text && read(from[0], text, sizeof text) == sizeof text, "pipe");
        sum = mix(sum, text[0]);
    }
    close(to[1]);
    waitpid(child, 0, 0);
    return sum;
}

static unsigned forks(void)
{
    unsigned sum = 0;
    for (int i = 0; i < 1500; i++) {
        pid_t child = fork();
        check(child >= 0, "fork");
        if (!child) _exit(i & 63);
        int status;
        waitpid(child, &status, 0);
        sum = mix(sum, (unsigned)WEXITSTATUS(status));
    }
    return sum;
}

static const char *self;
static unsigned execs(void)
{
    unsigned sum = 0;
    for (int i = 0; i < 600; i++) {
        pid_t child = fork();
        check(child >= 0, "fork");
        if (!child) { execl(self, self, "leave", (char *)0); _exit(1); }
        int status;
        waitpid(child, &status, 0);
        sum = mix(sum, (unsigned)WEXITSTATUS(status));
    }
    return sum;
}

static unsigned faults(void)
{
    unsigned sum = 0;
    for (int round = 0; round < 60; round++) {
        size_t size = 4 << 20;
        unsigned char *memory = mmap(0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        check(memory != MAP_FAILED, "mmap");
        for (size_t at = 0; at < size; at += 4096) memory[at] = (unsigned char)(at >> 12);
        for (size_t at = 0; at < size; at += 4096) sum = mix(sum, memory[at]);
        munmap(memory, size);
    }
    return sum;
}

int main(int count, char **arguments)
{
    static const struct { const char *name; unsigned (*run)(void); } tasks[] = {
        { "syscalls", syscalls }, { "pipes", pipes }, { "fork", forks }, { "exec", execs }, { "faults", faults },
    };
    if (count > 1 && !strcmp(arguments[1], "leave")) return 42;
    self = getpid() == 1 ? "/init" : arguments[0];
    setvbuf(stdout, 0, _IONBF, 0);
    printf("ready\n");
    for (size_t i = 0; i < sizeof tasks / sizeof *tasks; i++) {
        int wanted = count < 2;
        for (int n = 1; n < count; n++) wanted |= !strcmp(arguments[n], tasks[i].name);
        if (!wanted) continue;
        printf("start %s\n", tasks[i].name);
        printf("end %s %08x\n", tasks[i].name, tasks[i].run());
    }
    printf("all done\n");
    while (getpid() == 1) pause();
    return 0;
}
