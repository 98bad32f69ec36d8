/* Load over keep-alive connections: load PORT CONNECTIONS SECONDS FILE [RATE]; the bytes of FILE are one request. Each connection asks again when it is answered, or, with RATE, so many ask each second, and a latency counts from when it was due.
   The first answer on each connection, which may have waited to be accepted, isn't counted. Prints of the answers 200: how many per second, p50, p99 and largest latency in milliseconds; and of how many others. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define ROOM 262144
typedef struct { int fd, got, need, known, busy; double began, due; char buffer[ROOM]; } Connection;

static char *request;
static long size, failed;
static double *latencies;
static long count, capacity = 1 << 20;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static int larger(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void die(const char *what) { perror(what); exit(1); }

static void ask(Connection *c) {
    c->got = c->need = 0;
    c->busy = 1;
    c->began = c->due ? c->due : now();
    for (long sent = 0; sent < size;) {
        ssize_t n = send(c->fd, request + sent, size - sent, 0);
        if (n < 0) die("send");
        sent += n;
    }
}

/* Whether the answer has come whole. */
static int answered(Connection *c) {
    ssize_t n = recv(c->fd, c->buffer + c->got, ROOM - 1 - c->got, MSG_DONTWAIT);
    if (n == 0) { fprintf(stderr, "the server closed a connection\n"); exit(1); }
    if (n < 0) { if (errno == EAGAIN) return 0; die("recv"); }
    c->got += n;
    c->buffer[c->got] = 0;
    if (!c->need) {
        char *end = strstr(c->buffer, "\r\n\r\n"), *length = strcasestr(c->buffer, "content-length:");
        if (!end || !length) return 0;
        c->need = end + 4 - c->buffer + atoi(length + 15);
    }
    return c->got >= c->need;
}

static void note(Connection *c, double at) {
    int first = !c->known++;
    if (strncmp(c->buffer + 9, "200", 3)) { failed++; return; }
    if (first) return;
    if (count == capacity) latencies = realloc(latencies, (capacity *= 2) * sizeof *latencies);
    latencies[count++] = at - c->began;
}

int main(int argc, char **argv) {
    if (argc != 5 && argc != 6) return 2;
    double rate = argc == 6 ? atof(argv[5]) : 0;
    int connections = atoi(argv[2]);
    FILE *file = fopen(argv[4], "rb");
    if (!file) die(argv[4]);
    request = malloc(1 << 22);
    size = fread(request, 1, 1 << 22, file);
    latencies = malloc(capacity * sizeof *latencies);
    Connection *all = calloc(connections, sizeof *all);
    int queue = epoll_create1(0);
    struct sockaddr_in server = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1]))};
    inet_pton(AF_INET, "127.0.0.1", &server.sin_addr);
    for (int i = 0; i < connections; i++) {
        int yes = 1;
        all[i].fd = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(all[i].fd, (struct sockaddr *)&server, sizeof server)) die("connect");
        setsockopt(all[i].fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &all[i]};
        epoll_ctl(queue, EPOLL_CTL_ADD, all[i].fd, &event);
        if (!rate) ask(&all[i]);
    }
    double began = now(), end = began + atof(argv[3]);
    for (int i = 0; rate && i < connections; i++) all[i].due = began + i / rate;
    struct epoll_event events[256];
    while (now() < end) {
        for (int i = 0; rate && i < connections; i++)
            if (!all[i].busy && all[i].due <= now()) ask(&all[i]);
        int ready = epoll_wait(queue, events, 256, rate ? 1 : 100);
        for (int i = 0; i < ready; i++) {
            Connection *c = events[i].data.ptr;
            if (!answered(c)) continue;
            c->busy = 0;
            note(c, now());
            if (rate) c->due += connections / rate;
            else ask(c);
        }
    }
    double seconds = now() - began;
    if (!count) { fprintf(stderr, "no answer came\n"); return 1; }
    qsort(latencies, count, sizeof *latencies, larger);
    printf("%.1f %.4f %.4f %.4f %ld\n", count / seconds, latencies[count / 2] * 1e3, latencies[count * 99 / 100] * 1e3,
           latencies[count - 1] * 1e3, failed);
    return 0;
}
