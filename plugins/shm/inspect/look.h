#pragma once
// inspect/look.h: how an observer gets a page of counters: over the endpoint's socket, with a Look where a client has
// its Hello. The server answers with a Page, which carries the file, and hangs up. No link is made, no client counted.
// Bytes: ../LAYOUT.md.
#include <functional>

#include "handshake.h"
#include "inspect/page.h"

namespace cdmf::ipc::shm {

struct Look {
  PacketHeader header{.kind = PacketKind::look};
  std::uint32_t reserved[5] = {};
};
struct Page {
  PacketHeader header{.kind = PacketKind::page};
  std::int32_t status = CDMF_OK;  // Otherwise there is no file, and text says why.
  char text[256] = {};
};
static_assert(sizeof(Look) == kHelloBytesMin && sizeof(Page) == 272);

/// The server's half, after the Look was read. Only this user and root are shown anything.
/// make_page  writes the page when the observer may have it.
void answer_look(int socket, const PacketHeader& look,
                 const std::function<cdmf_status(UniqueFd& page, ErrorText& error)>& make_page);

/// The observer's half. TIMEOUT: no answer, and the text says what the system knows of the server's process.
cdmf_status ask_for_page(int socket, std::uint64_t deadline, PeerCredentials& server, UniqueFd& page, ErrorText& error);

}  // namespace cdmf::ipc::shm
