/* Faults of the disk, for tests: counts the operations on files below a folder and lets one of them fail.

   Build: cc -shared -fPIC -O1 -o faults.so faults.c -ldl, and start a program with LD_PRELOAD=faults.so. Until
   faults_arm is called, nothing happens.

   Actions: 1 the process is killed before the operation; 2 it is killed in the middle of a write, half of which is done;
   3 the disk is full from then on; 4 an error of input or output, once. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char folder[4096];
static long at = -1, count = 0;
static int action = 0, full = 0;

void faults_arm(const char *below, long operation, int what) {
    strncpy(folder, below, sizeof folder - 1);
    at = operation;
    action = what;
    count = 0;
    full = 0;
}

long faults_count(void) { return count; }

static int watched(const char *path) { return folder[0] && path && strncmp(path, folder, strlen(folder)) == 0; }

static int watched_fd(int fd) {
    char link[64], path[4096];
    if (!folder[0]) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n <= 0) return 0;
    path[n] = 0;
    return watched(path);
}

/* 0: go on; else the errno of the operation. `writes`: it needs room; *tear: do half of it, then die. */
static int fault(int writes, int *tear) {
    int result = 0;
    pthread_mutex_lock(&lock);
    count++;
    if (full && writes) result = ENOSPC;
    if (count == at) {
        if (action == 1 || (action == 2 && !tear)) kill(getpid(), SIGKILL);
        if (action == 2) *tear = 1;
        if (action == 3) { full = 1; if (writes) result = ENOSPC; }
        if (action == 4) result = EIO;
    }
    pthread_mutex_unlock(&lock);
    return result;
}

#define REAL(name) __typeof__(&name) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

static int opened(const char *path, int flags) { return watched(path) && (flags & (O_WRONLY | O_RDWR | O_CREAT)); }

#define OPEN(name)                                                                   \
    int name(const char *path, int flags, ...) {                                     \
        int (*real)(const char *, int, ...) = dlsym(RTLD_NEXT, #name);               \
        mode_t mode = 0;                                                             \
        if (flags & (O_CREAT | O_TMPFILE)) {                                         \
            va_list a; va_start(a, flags); mode = va_arg(a, mode_t); va_end(a);      \
        }                                                                            \
        int e = opened(path, flags) ? fault(1, NULL) : 0;                            \
        if (e) { errno = e; return -1; }                                             \
        return real(path, flags, mode);                                              \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                                 \
    int name(int at_fd, const char *path, int flags, ...) {                          \
        int (*real)(int, const char *, int, ...) = dlsym(RTLD_NEXT, #name);          \
        mode_t mode = 0;                                                             \
        if (flags & (O_CREAT | O_TMPFILE)) {                                         \
            va_list a; va_start(a, flags); mode = va_arg(a, mode_t); va_end(a);      \
        }                                                                            \
        int e = opened(path, flags) ? fault(1, NULL) : 0;                            \
        if (e) { errno = e; return -1; }                                             \
        return real(at_fd, path, flags, mode);                                       \
    }
OPENAT(openat)
OPENAT(openat64)

ssize_t write(int fd, const void *data, size_t size) {
    ssize_t (*real)(int, const void *, size_t) = dlsym(RTLD_NEXT, "write");
    int tear = 0, e = watched_fd(fd) ? fault(1, &tear) : 0;
    if (tear) { real(fd, data, size / 2); kill(getpid(), SIGKILL); }
    if (e) { errno = e; return -1; }
    return real(fd, data, size);
}

#define PATHS(name, signature, arguments, path, writes)                              \
    int name signature {                                                             \
        REAL(name);                                                                  \
        int e = watched(path) ? fault(writes, NULL) : 0;                             \
        if (e) { errno = e; return -1; }                                             \
        return real arguments;                                                       \
    }
PATHS(rename, (const char *a, const char *b), (a, b), a, 0)
PATHS(mkdir, (const char *a, mode_t m), (a, m), a, 1)
PATHS(rmdir, (const char *a), (a), a, 0)
PATHS(unlink, (const char *a), (a), a, 0)

int renameat(int x, const char *a, int y, const char *b) {
    REAL(renameat);
    int e = watched(a) ? fault(0, NULL) : 0;
    if (e) { errno = e; return -1; }
    return real(x, a, y, b);
}

int mkdirat(int x, const char *a, mode_t m) {
    REAL(mkdirat);
    int e = watched(a) ? fault(1, NULL) : 0;
    if (e) { errno = e; return -1; }
    return real(x, a, m);
}

int unlinkat(int x, const char *a, int flags) {
    REAL(unlinkat);
    /* shutil.rmtree names files relative to an open folder. */
    int e = (watched(a) || (a[0] != '/' && watched_fd(x))) ? fault(0, NULL) : 0;
    if (e) { errno = e; return -1; }
    return real(x, a, flags);
}

int fsync(int fd) {
    REAL(fsync);
    int e = watched_fd(fd) ? fault(1, NULL) : 0;
    if (e) { errno = e; return -1; }
    return real(fd);
}

int ftruncate(int fd, off_t size) {
    REAL(ftruncate);
    int e = watched_fd(fd) ? fault(1, NULL) : 0;
    if (e) { errno = e; return -1; }
    return real(fd, size);
}
