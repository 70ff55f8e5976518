#include "registry/elf_check.h"

#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <optional>
#include <span>
#include <system_error>
#include <utility>
#include <vector>

namespace cdmf::ipc::registry {
namespace {

using Header = ElfW(Ehdr);
using Segment = ElfW(Phdr);
using Dynamic = ElfW(Dyn);

constexpr std::size_t kSegmentCountMax = 128;
constexpr std::size_t kDynamicCountMax = 4096;
constexpr std::size_t kStringBytesMax = std::size_t{1} << 20;

constexpr char kCopyAgain[] = "; copy it there again";

bool read_at(int fd, std::uint64_t offset, std::span<std::byte> bytes) {
  std::size_t filled = 0;
  while (filled < bytes.size()) {
    const ssize_t count =
        ::pread(fd, bytes.data() + filled, bytes.size() - filled, static_cast<off_t>(offset + filled));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return false;
    filled += static_cast<std::size_t>(count);
  }
  return true;
}

template <typename T>
bool read_objects(int fd, std::uint64_t offset, std::vector<T>& objects) {
  return read_at(fd, offset, std::as_writable_bytes(std::span(objects)));
}

bool fits(std::uint64_t offset, std::uint64_t size, std::uint64_t file_bytes) {
  return offset <= file_bytes && size <= file_bytes - offset;
}

/// The header of this very program: what a plugin must agree with.
const std::optional<Header>& own_header() {
  static const std::optional<Header> header = []() -> std::optional<Header> {
    Header own{};
    const int fd = ::open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    const bool read = fd >= 0 && read_at(fd, 0, std::as_writable_bytes(std::span(&own, 1)));
    if (fd >= 0) ::close(fd);
    return read ? std::optional(own) : std::nullopt;
  }();
  return header;
}

const char* class_name(unsigned char value) {
  return value == ELFCLASS64 ? "64-bit" : value == ELFCLASS32 ? "32-bit" : "unknown class";
}

std::string machine_name(unsigned machine) {
  switch (machine) {
    case EM_386:
      return "i386";
    case EM_X86_64:
      return "x86-64";
    case EM_ARM:
      return "ARM";
    case EM_AARCH64:
      return "AArch64";
    case EM_RISCV:
      return "RISC-V";
    case EM_PPC64:
      return "PowerPC64";
    case EM_S390:
      return "S/390";
    default:
      return "machine " + std::to_string(machine);
  }
}

/// What differs from this program; empty when nothing does.
std::string compare_with_own(const Header& header) {
  if (!own_header()) return {};  // No /proc: the loader decides.
  const Header& own = *own_header();
  std::string text;
  const auto differ = [&text](const char* what, const std::string& theirs, const std::string& ours) {
    text += (text.empty() ? "" : ", ") + std::string(what) + " " + theirs + " where this program has " + ours;
  };
  if (header.e_ident[EI_CLASS] != own.e_ident[EI_CLASS]) {
    differ("class", class_name(header.e_ident[EI_CLASS]), class_name(own.e_ident[EI_CLASS]));
  }
  if (header.e_ident[EI_DATA] != own.e_ident[EI_DATA]) {
    const auto order = [](unsigned char data) { return data == ELFDATA2MSB ? "big-endian" : "little-endian"; };
    differ("byte order", order(header.e_ident[EI_DATA]), order(own.e_ident[EI_DATA]));
  }
  if (header.e_machine != own.e_machine) {
    differ("machine", machine_name(header.e_machine), machine_name(own.e_machine));
  }
  return text.empty() ? text : "is built for another machine: " + text + "; build it for this one";
}

/// Offset in the file of an address that the program would see; segments are already checked to lie in the file.
std::optional<std::uint64_t> file_offset(const std::vector<Segment>& segments, std::uint64_t address) {
  for (const Segment& segment : segments) {
    if (segment.p_type == PT_LOAD && address >= segment.p_vaddr && address - segment.p_vaddr < segment.p_filesz) {
      return segment.p_offset + (address - segment.p_vaddr);
    }
  }
  return std::nullopt;
}

/// Names of the libraries it needs. Empty when its dynamic section makes no sense: the loader will say so.
std::vector<std::string> needed_libraries(int fd, const std::vector<Segment>& segments) {
  std::vector<Dynamic> entries;
  for (const Segment& segment : segments) {
    if (segment.p_type != PT_DYNAMIC) continue;
    entries.resize(std::min<std::size_t>(segment.p_filesz / sizeof(Dynamic), kDynamicCountMax));
    if (!read_objects(fd, segment.p_offset, entries)) return {};
    break;
  }
  std::uint64_t table_address = 0;
  std::uint64_t table_bytes = 0;
  std::vector<std::uint64_t> name_offsets;
  for (const Dynamic& entry : entries) {
    if (entry.d_tag == DT_NULL) break;
    if (entry.d_tag == DT_STRTAB) table_address = entry.d_un.d_ptr;
    if (entry.d_tag == DT_STRSZ) table_bytes = entry.d_un.d_val;
    if (entry.d_tag == DT_NEEDED) name_offsets.push_back(entry.d_un.d_val);
  }
  const auto offset = file_offset(segments, table_address);
  if (!offset || table_bytes == 0 || table_bytes > kStringBytesMax) return {};
  std::vector<char> table(table_bytes);
  if (!read_objects(fd, *offset, table)) return {};
  table.back() = '\0';
  std::vector<std::string> names;
  for (const std::uint64_t name : name_offsets) {
    if (name < table.size()) names.emplace_back(table.data() + name);
  }
  return names;
}

ElfFacts refused(std::string problem) { return {std::move(problem), {}}; }

}  // namespace

ElfFacts examine_elf(int fd) {
  struct stat status {};
  if (::fstat(fd, &status) != 0) return refused("cannot be examined: " + std::generic_category().message(errno));
  const auto file_bytes = static_cast<std::uint64_t>(status.st_size);

  if (file_bytes == 0) return refused(std::string("is empty") + kCopyAgain);
  unsigned char magic[SELFMAG] = {};
  if (!read_at(fd, 0, std::as_writable_bytes(std::span(magic))) || std::memcmp(magic, ELFMAG, SELFMAG) != 0) {
    return refused("is not an ELF file; put the built library there");
  }
  std::vector<Header> headers(1);
  if (!read_objects(fd, 0, headers)) return refused(std::string("is truncated in its header") + kCopyAgain);
  const Header& header = headers[0];
  if (std::string difference = compare_with_own(header); !difference.empty()) return refused(std::move(difference));
  if (header.e_type != ET_DYN) return refused("is an ELF file, but no shared library; link it with -shared");

  if (header.e_phentsize != sizeof(Segment) || header.e_phnum == 0 || header.e_phnum > kSegmentCountMax) {
    return refused(std::string("has a damaged header") + kCopyAgain);
  }
  std::vector<Segment> segments(header.e_phnum);
  if (!fits(header.e_phoff, segments.size() * sizeof(Segment), file_bytes) ||
      !read_objects(fd, header.e_phoff, segments)) {
    return refused(std::string("is truncated: its segment table lies past its end") + kCopyAgain);
  }
  for (const Segment& segment : segments) {
    const bool in_file = segment.p_type == PT_LOAD || segment.p_type == PT_DYNAMIC;
    if (in_file && !fits(segment.p_offset, segment.p_filesz, file_bytes)) {
      return refused("is truncated: it has " + std::to_string(file_bytes) + " bytes, and a segment ends at " +
                     std::to_string(segment.p_offset + segment.p_filesz) + kCopyAgain);
    }
  }

  ElfFacts facts;
  facts.needed = needed_libraries(fd, segments);
  return facts;
}

}  // namespace cdmf::ipc::registry
