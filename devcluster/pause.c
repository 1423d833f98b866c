/* Holds a pod's namespaces open and does nothing else: it sleeps until it is told to end, and, as the first process of
   a pod that shares its process namespace, collects the children whose parents have gone. */
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static void end(int signal) { (void)signal; _exit(0); }
static void reap(int signal) { (void)signal; while (waitpid(-1, 0, WNOHANG) > 0) { } }

int main(void) {
  sigaction(SIGINT, &(struct sigaction){.sa_handler = end}, 0);
  sigaction(SIGTERM, &(struct sigaction){.sa_handler = end}, 0);
  sigaction(SIGCHLD, &(struct sigaction){.sa_handler = reap, .sa_flags = SA_NOCLDSTOP}, 0);
  for (;;) pause();
}
