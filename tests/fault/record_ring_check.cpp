// Checks the one-producer, one-consumer record ring; without GoogleTest and in one source, because seeded_bug.sh
// compiles it once per seeded bug. The modes are the headers in record_ring/. Prints what it did; the exit code is 1
// with the first thing that is wrong, 77 when the machine forbids tracing.
#include <unistd.h>

#include <cstdio>
#include <string>

#include "fault/record_ring/hostile.h"
#include "fault/record_ring/kill.h"
#include "fault/record_ring/model.h"
#include "fault/record_ring/storm.h"
#include "fault/record_ring/threads.h"

int main(int argc, char** argv) {
  using namespace record_ring_check;
  const std::string mode = argc == 2 ? argv[1] : "";
  alarm(mode == "storm" ? 500 : 100);  // Whatever loops for ever ends here, as a failure.
  if (mode == "model") return model();
  if (mode == "threads") return threads();
  if (mode == "hostile") return hostile();
  if (mode == "storm") return storm();
  if (mode == "kill") return kill_everywhere();
  std::fprintf(stderr, "record_ring_check model | threads | hostile | kill | storm\n");
  return 2;
}
