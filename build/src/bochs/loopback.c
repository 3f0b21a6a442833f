/*
 * Preloaded into Bochs, so that its screen listens on this machine only, at a port of its own.
 *
 * Bochs's rfb display (VNC, without a password) listens at all addresses, at the first port from 5900 on that it can
 * bind. With SO_REUSEADDR two emulators that start at once both bind that port; then listen() fails for one of them,
 * which tries the other ports with the socket that it has bound already, fails 49 times, and ends. Here the host
 * chooses the port.
 */
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

int bind(int fd, const struct sockaddr *address, socklen_t length)
{
    struct sockaddr_in local = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };

    if (address->sa_family == AF_INET) {
        address = (const struct sockaddr *)&local;
        length = sizeof local;
    }
    return syscall(SYS_bind, fd, address, length);
}
