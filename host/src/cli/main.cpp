// The program `cdmf`: reads the command line and hands it to one of the commands in cli/commands.h.
#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>
#include <exception>
#include <string>
#include <string_view>
#include <vector>

#include "cli/command_error.h"
#include "cli/commands.h"
#include "config/problem.h"
#include "config/suggest.h"

namespace {

using namespace cdmf::ipc::cli;

constexpr char kFooter[] =
    "\nExit codes: 0 done; 1 failed, standard error says why; 2 wrong words on the command line."
    "\nPlugins are searched in --plugin-path, CDMF_PLUGIN_PATH, the file's plugins.search_paths, and beside the "
    "program.";

/// Every command's words, and what to call for the one that was given.
class CommandLine {
 public:
  CommandLine() {
    app_.set_version_flag("--version", "cdmf " CDMF_VERSION);
    app_.require_subcommand(1);
    app_.footer(kFooter);
    app_.add_option("--plugin-path", program_.plugin_paths, "Folder with transport plugins, searched first; repeatable")
        ->option_text("DIR")
        ->allow_extra_args(false);
    app_.add_option("--log-level", program_.log_level, "trace | debug | info | warning | error (or CDMF_LOG)")
        ->option_text("LEVEL");
    add_run();
    add_transfer("recv", "Receive from one sender and write to standard output", command_recv,
                 "Server side. One message a line, or with --raw the bytes as they came. Exits 0 when the sender has "
                 "closed and everything was written, 1 when it died or anything was lost.");
    add_transfer("send", "Send standard input", command_send,
                 "Client side. One message a line, or with --raw pieces of at most max_message_size. Waits up to "
                 "connect_timeout for the receiver to be there, and as long as it lives when it is slow. Exits 0 when "
                 "the transport has accepted everything.");
    add_call();
    add_plugins();
    add_check();
    add_conform();
    add_bench();
    add_inspect();
    add_doctor();
    add_size();
    auto* demo = command(app_, "demo", "Send a file over each transport by changing one word of YAML",
                         [this] { return command_demo(program_); });
    demo->footer(
        "Uses two processes where the transport can, checks the file's SHA-256 at both ends, and measures each "
        "transport beside what this machine can do at best. Takes about half a minute.");
  }

  int run(int argc, char** argv) {
    try {
      app_.parse(argc, argv);
    } catch (const CLI::RequiredError& error) {
      const std::string unknown = unknown_command();
      if (unknown.empty()) return app_.exit(error) == 0 ? kExitOk : kExitUsage;
      std::fprintf(stderr, "%s\nRun with --help for more information.\n", unknown.c_str());
      return kExitUsage;
    } catch (const CLI::ParseError& error) {
      return app_.exit(error) == 0 ? kExitOk : kExitUsage;
    }
    return work_();
  }

 private:
  /// What to say when a word stands where a command should; empty when there is none. CLI11 only misses the command.
  std::string unknown_command() {
    const std::vector<std::string> words = app_.remaining(true);
    const bool below = app_.got_subcommand("plugins");
    if (words.empty() || (!below && !app_.get_subcommands().empty())) return {};
    const CLI::App* parent = below ? app_.get_subcommand("plugins") : &app_;
    std::vector<std::string> names;
    for (const CLI::App* known :
         parent->get_subcommands([](const CLI::App* app) { return !app->get_group().empty(); })) {
      names.push_back(known->get_name());
    }
    return "'" + cdmf::ipc::config::printable(words.front()) + "' is no command" + (below ? " of plugins; " : "; ") +
           cdmf::ipc::config::suggestion(words.front(), std::vector<std::string_view>(names.begin(), names.end()));
  }

  CLI::App* command(CLI::App& parent, const char* name, const char* summary, std::function<int()> work) {
    CLI::App* added = parent.add_subcommand(name, summary);
    added->fallthrough();  // So that --plugin-path may also follow the command.
    added->final_callback([this, work = std::move(work)] { work_ = work; });
    return added;
  }

  static void add_file(CLI::App* to, std::string& file) {
    to->add_option("FILE", file, "YAML configuration")->required();
  }

  void add_run() {
    auto* run = command(app_, "run", "Answer calls over every transport of a file",
                        [this] { return command_run(program_, run_arguments_); });
    add_file(run, run_arguments_.file);
    run->footer(
        "Methods: echo (the same bytes), time (microseconds since 1970), checksum (CRC-32, hexadecimal), "
        "cdmf.introspect (methods, counts and health as JSON). Prints 'ready' when all transports work, stops on "
        "SIGINT or SIGTERM, prints what it counted and exits 0.");
  }

  void add_call() {
    auto* call = command(app_, "call", "Call a method of a service and print its reply",
                         [this] { return command_call(program_, call_); });
    add_file(call, call_.file);
    call->add_option("METHOD", call_.method, "Such as echo, of `cdmf run`, or cdmf.introspect of any service")
        ->required();
    call->add_option("DATA", call_.data, "The request: text, @PATH for a file, - for standard input; default empty");
    call->add_option("--timeout", call_.timeout, "How long to wait, such as 500ms (default 5s)")
        ->option_text("DURATION");
    call->add_option("--transport", call_.transport, "Which transport of the file; not needed with only one")
        ->option_text("NAME");
    call->footer(
        "Exits 0 with a reply, which is written as it is. Else 1, and standard error says how the call ended: "
        "APPLICATION_ERROR (the handler's), NOT_SENT (it did not run) or UNKNOWN (it may have run).");
  }

  void add_transfer(const char* name, const char* summary, int (*work)(const ProgramOptions&, const TransferArguments&),
                    const char* footer) {
    auto* transfer = command(app_, name, summary, [this, work] { return work(program_, transfer_); });
    add_file(transfer, transfer_.file);
    transfer->add_option("--transport", transfer_.transport, "Which transport of the file; not needed with only one")
        ->option_text("NAME");
    transfer->add_flag("--raw", transfer_.raw, "A stream of bytes instead of lines");
    transfer->footer(footer);
  }

  void add_plugins() {
    auto* plugins = app_.add_subcommand("plugins", "Look at transport plugins");
    plugins->require_subcommand(1);
    plugins->fallthrough();
    auto* list = command(*plugins, "list", "Table of usable plugins",
                         [this] { return command_plugins_list(program_, plugin_); });
    list->add_flag("--all", plugin_.all, "Also those that are refused or hidden by another, with the reason");
    auto* inspect = command(*plugins, "inspect", "Everything a plugin says of itself",
                            [this] { return command_plugins_inspect(program_, plugin_); });
    inspect->add_option("NAME", plugin_.name, "Type, as after `type:` in YAML")->required();
    auto* doc = command(*plugins, "doc", "Manual of a plugin's options",
                        [this] { return command_plugins_doc(program_, plugin_); });
    doc->add_option("NAME", plugin_.name, "Type, as after `type:` in YAML")->required();
    doc->add_option("--format", plugin_.format, "text | markdown | yaml")
        ->option_text("FORMAT")
        ->check(CLI::IsMember({"text", "markdown", "yaml"}));
  }

  void add_check() {
    auto* check = command(app_, "check", "Check configurations without starting anything",
                          [this] { return command_check(program_, check_); });
    check->add_option("FILE", check_.files, "YAML configurations")->required();
    check->footer("Prints every problem as file:line:column and exits 1 if there is any.");
  }

  void add_conform() {
    auto* conform = command(app_, "conform", "Test whether a transport keeps the promises of every transport",
                            [this] { return command_conform(program_, conform_); });
    conform->add_option("PATH.so", conform_.plugins, "Plugins, libcdmf_<type>.so; several give a table");
    conform->add_option("--config", conform_.config, "YAML configuration with entries of the plugins' types")
        ->option_text("FILE");
    conform->add_option("--transport", conform_.transport, "Only this entry of the file")->option_text("NAME");
    conform
        ->add_option("--filter", conform_.filter,
                     "Which tests: Suite.Name with * and ?, several between ':', '-' excludes")
        ->option_text("GLOB");
    conform->add_option("--junit", conform_.junit, "Write the results as JUnit XML, too")->option_text("FILE");
    conform->add_flag("--list", conform_.list, "Print the names of the tests and run none");
    conform->add_option("--jobs", conform_.jobs, "Tests at the same time (default 1)")
        ->option_text("N")
        ->check(CLI::Range(1, 1024));
    conform->add_option("--timeout", conform_.timeout_seconds, "Seconds that one test may take (default 120)")
        ->option_text("S")
        ->check(CLI::Range(0.1, 86400.0));
    conform->footer(
        "Each test runs in a process group and a folder of its own: a crash (the signal is named), a hang or a process "
        "left behind is that test's result. What a plugin does not claim in its capabilities is skipped, with the "
        "reason. Without --config default options are tested; with it, every entry of the plugin's type. Exits 0 when "
        "nothing failed, 1 when a test failed or a plugin cannot be used, 2 when the words make no sense.");
  }

  void add_bench() {
    auto* bench = command(app_, "bench", "Measure a transport beside what the machine can do at best",
                          [this] { return command_bench(program_, bench_); });
    bench->add_option("--config", bench_.file, "YAML configuration")->required()->option_text("FILE");
    bench->add_option("--transport", bench_.transport, "Which transport of the file; not needed with only one")
        ->option_text("NAME");
    bench->add_option("--pattern", bench_.pattern, "pingpong | stream | call")
        ->required()
        ->option_text("PATTERN")
        ->check(CLI::IsMember({"pingpong", "stream", "call"}));
    bench->add_option("--size", bench_.size, "Payload of each message, such as 64 or 64KiB; at least 1")
        ->required()
        ->option_text("SIZE");
    bench->add_option("--seconds", bench_.seconds, "Length of a round, limits included (default 1)")
        ->option_text("S")
        ->check(CLI::Range(0.01, 3600.0));
    bench->add_option("--rounds", bench_.rounds, "Rounds, besides one to warm up (default 10)")
        ->option_text("R")
        ->check(CLI::Range(1, 10000));
    bench->add_flag("--json", bench_.json, "One JSON object instead of a table");
    bench->footer(
        "Two pinned processes (two threads for a transport that stays in one). Each round measures the machine "
        "too; ratio_to_limit is the median of the rounds' ratios: round trip to that of a bare cache line, or "
        "bytes per second to those of a bare copy from core to core. "
        "Pattern call: calls of a service, one at a time beside the transport's own pingpong in the same rounds, and "
        "as many at once as its buffers hold.");

    auto* peer = command(app_, "bench-peer", "", [this] { return command_bench_peer(program_, bench_peer_); });
    peer->group("");  // Not in --help: only `bench` starts it.
    peer->add_option("--config", bench_peer_.file)->required();
    peer->add_option("--transport", bench_peer_.transport)->required();
    peer->add_option("--endpoint", bench_peer_.endpoint)->required();
    peer->add_option("--size", bench_peer_.size_bytes)->required();
    peer->add_option("--cpu", bench_peer_.cpu)->required();
  }

  void add_target(CLI::App* to, std::string& target, std::string& transport, std::string& type) {
    to->add_option("FILE|ENDPOINT", target, "YAML configuration, or the name of an endpoint such as /orders")
        ->required();
    to->add_option("--transport", transport, "Which transport of the file; not needed with only one")
        ->option_text("NAME");
    to->add_option("--type", type, "Of the endpoint; not needed when one server listens there")->option_text("TYPE");
  }

  void add_inspect() {
    auto* inspect = command(app_, "inspect", "Look into a running endpoint: links, rings, counters, errors",
                            [this] { return command_inspect(program_, inspect_); });
    add_target(inspect, inspect_.target, inspect_.transport, inspect_.type);
    auto* watch = inspect->add_option("--watch", inspect_.interval_seconds,
                                      "Look again each so many seconds (default 1), until SIGINT");
    watch->option_text("[SECONDS]")->expected(0, 1)->check(CLI::Range(0.01, 86400.0));
    watch->each([this](const std::string&) { inspect_.watch = true; });
    inspect->add_flag("--json", inspect_.json, "A JSON object a line instead of a table");
    inspect->footer(
        "Any process of the server's user, or root, may look; it is no client and disturbs none. UTILISATION is the "
        "high-water mark / capacity, DROP RATE pushes that found the ring full / messages pushed. A receiver is "
        "asleep when a message has to wake it; a link that was quiet is parked, which is to say looked at now and "
        "then, "
        "and hot otherwise.");
  }

  void add_doctor() {
    auto* doctor = command(app_, "doctor", "Watch a running endpoint and say what to change",
                           [this] { return command_doctor(program_, doctor_); });
    add_target(doctor, doctor_.target, doctor_.transport, doctor_.type);
    doctor->add_option("--for", doctor_.time, "How long to watch, such as 10s (default 2s)")->option_text("DURATION");
    doctor->footer(
        "Walks the tree of the specification: high latency, low throughput, buffer full, CAS contention; and errors. "
        "Exit codes: 0 healthy, 1 something was found, 2 it could not look (nobody listens, another user, a server "
        "that "
        "does not answer, wrong words).");
  }

  void add_size() {
    auto* size = command(app_, "size", "What memory a configuration takes, and which one suits a load",
                         [this] { return command_size(program_, size_); });
    auto* file = size->add_option("FILE", size_.file, "YAML configuration");
    size->add_option("--transport", size_.transport, "Which transport of the file; all of them without it")
        ->option_text("NAME")
        ->needs(file);
    auto* capacity = size->add_option("--capacity", size_.capacity, "Messages that one direction is to hold")
                         ->option_text("N")
                         ->check(CLI::Range(std::uint64_t{1}, std::uint64_t{1} << 40));
    auto* message_size = size->add_option("--message-size", size_.message_size, "Payload of each, such as 4KiB")
                             ->option_text("SIZE")
                             ->excludes(file);
    capacity->needs(message_size);
    auto* rate = size->add_option("--rate", size_.rate, "Messages a second: 50000, 50K, 2.5M")->option_text("R");
    auto* latency = size->add_option("--latency", size_.latency, "One way, such as 20us")->option_text("DURATION");
    rate->needs(latency);
    latency->needs(rate);
    size->add_option("--producers", size_.producers, "Who send (default 1)")
        ->option_text("P")
        ->check(CLI::Range(1, 1 << 20))
        ->excludes(file);
    size->add_option("--consumers", size_.consumers, "Who receive (default 1)")
        ->option_text("C")
        ->check(CLI::Range(1, 1 << 20))
        ->excludes(file);
    size->add_option("--clients", size_.clients, "Also print the memory of so many (default 1)")
        ->option_text("N")
        ->check(CLI::Range(std::uint64_t{1}, std::uint64_t{1} << 32));
    size->add_option("--type", size_.type, "Transport to size without a file (default shm)")
        ->option_text("TYPE")
        ->excludes(file);
    size->footer(
        "With FILE: the exact memory of its transports, part by part, beside the specification's formula. With "
        "--capacity and --message-size: options that hold so many such messages, as YAML to paste, and their memory. "
        "With --rate and --latency: the same for the capacity and kind of ring that the specification's flowchart "
        "recommends for that load.");
  }

  CLI::App app_{"Messages between processes over exchangeable transports.", "cdmf"};
  std::function<int()> work_;
  ProgramOptions program_;
  RunArguments run_arguments_;
  CallArguments call_;
  TransferArguments transfer_;
  PluginArguments plugin_;
  CheckArguments check_;
  ConformArguments conform_;
  BenchArguments bench_;
  BenchPeerArguments bench_peer_;
  SizeArguments size_;
  InspectArguments inspect_;
  DoctorArguments doctor_;
};

}  // namespace

int main(int argc, char** argv) {
  // A reader that goes away is an error with a text, not a silent death.
  std::signal(SIGPIPE, SIG_IGN);
  CommandLine line;
  try {
    return line.run(argc, argv);
  } catch (const CommandError& error) {
    std::fprintf(stderr, "cdmf: %s\n", error.what());
    return error.exit_code();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "cdmf: %s\n", error.what());
    return kExitFailure;
  }
}
