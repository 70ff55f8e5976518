// Must not compile; the test looks for the reason in the compiler's message.
#include "ipc/ring_buffer.h"

cdmf::ipc::REFUSED_RING<int, REFUSED_CAPACITY> ring;
