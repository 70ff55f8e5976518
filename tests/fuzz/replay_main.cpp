// Runs a fuzzer's function over every file of the folders named on the command line, with any compiler.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size);

int main(int argc, char** argv) {
  std::size_t count = 0;
  for (int i = 1; i < argc; ++i) {
    for (const auto& file : std::filesystem::recursive_directory_iterator(argv[i])) {
      if (!file.is_regular_file()) continue;
      std::ifstream stream(file.path(), std::ios::binary);
      const std::vector<char> text{std::istreambuf_iterator<char>(stream), {}};
      // A copy of exactly this size, so that a sanitizer sees the first byte read behind it. Named first: whatever goes
      // wrong then is this file's.
      std::printf("%s: %zu bytes\n", file.path().filename().c_str(), text.size());
      std::fflush(stdout);
      const std::vector<std::uint8_t> bytes(text.begin(), text.end());
      LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
      ++count;
    }
  }
  if (count == 0) std::fprintf(stderr, "there is no file to replay\n");
  return count == 0 ? 1 : 0;
}
