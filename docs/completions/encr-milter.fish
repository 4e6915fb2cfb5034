# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_encr_milter_global_optspecs
    string join \n h/help V/version
end

function __fish_encr_milter_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_encr_milter_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_encr_milter_using_subcommand
    set -l cmd (__fish_encr_milter_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c encr-milter -n "__fish_encr_milter_needs_command" -s h -l help -d 'Print help'
complete -c encr-milter -n "__fish_encr_milter_needs_command" -s V -l version -d 'Print version'
complete -c encr-milter -n "__fish_encr_milter_needs_command" -f -a "run" -d 'Run the daemon in the foreground, for systemd or another supervisor'
complete -c encr-milter -n "__fish_encr_milter_needs_command" -f -a "reload" -d 'Have the running daemon load its policy and open its logs anew, and tell what came of it'
complete -c encr-milter -n "__fish_encr_milter_needs_command" -f -a "status" -d 'Show how the running daemon does: its policy, the last load, connections, decisions, losses'
complete -c encr-milter -n "__fish_encr_milter_needs_command" -f -a "check" -d 'Show all that is wrong with the daemon\'s file and its policy, or with a policy alone'
complete -c encr-milter -n "__fish_encr_milter_needs_command" -f -a "explain" -d 'Show what would be decided for a connection, and why: the keys that were tried, in order'
complete -c encr-milter -n "__fish_encr_milter_needs_command" -f -a "access" -d 'From sendmail\'s access map to a policy, what is wrong with it, and back'
complete -c encr-milter -n "__fish_encr_milter_needs_command" -f -a "simulate" -d 'Replay logs against a policy that is not in force, and show only what would change'
complete -c encr-milter -n "__fish_encr_milter_needs_command" -f -a "report" -d 'Show who would break, where each rule stands, and what happened'
complete -c encr-milter -n "__fish_encr_milter_needs_command" -f -a "evidence" -d 'Put the evidence of several hosts together, and see what is in a file'
complete -c encr-milter -n "__fish_encr_milter_needs_command" -f -a "promote" -d 'Make a rule harder, in the policy file itself, if the evidence allows it'
complete -c encr-milter -n "__fish_encr_milter_needs_command" -f -a "demote" -d 'Make a rule softer, in the policy file itself'
complete -c encr-milter -n "__fish_encr_milter_needs_command" -f -a "probe" -d 'Look at any SMTP server\'s TLS: what it offers, what is negotiated, which thresholds that would meet'
complete -c encr-milter -n "__fish_encr_milter_needs_command" -f -a "doctor" -d 'Look at this machine, and say what is wrong and how to mend it'
complete -c encr-milter -n "__fish_encr_milter_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c encr-milter -n "__fish_encr_milter_using_subcommand run" -s c -l config -d 'The daemon\'s file' -r -F
complete -c encr-milter -n "__fish_encr_milter_using_subcommand run" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c encr-milter -n "__fish_encr_milter_using_subcommand reload" -s c -l config -d 'The daemon\'s file: it says where the daemon is asked' -r -F
complete -c encr-milter -n "__fish_encr_milter_using_subcommand reload" -l socket -d 'The daemon\'s control socket, in place of the one that its file says' -r -F
complete -c encr-milter -n "__fish_encr_milter_using_subcommand reload" -l timeout -d 'How long to wait for the outcome, in seconds' -r -f
complete -c encr-milter -n "__fish_encr_milter_using_subcommand reload" -l json -d 'Tell it as one JSON object on standard output'
complete -c encr-milter -n "__fish_encr_milter_using_subcommand reload" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c encr-milter -n "__fish_encr_milter_using_subcommand status" -s c -l config -d 'The daemon\'s file: it says where the daemon is asked' -r -F
complete -c encr-milter -n "__fish_encr_milter_using_subcommand status" -l socket -d 'The daemon\'s control socket, in place of the one that its file says' -r -F
complete -c encr-milter -n "__fish_encr_milter_using_subcommand status" -l json -d 'Tell it as one JSON object on standard output'
complete -c encr-milter -n "__fish_encr_milter_using_subcommand status" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c encr-milter -n "__fish_encr_milter_using_subcommand check" -s c -l config -d 'The daemon\'s file; the policy that it names is checked too' -r -F
complete -c encr-milter -n "__fish_encr_milter_using_subcommand check" -l policy -d 'Policy files (or globs), together one policy' -r -F
complete -c encr-milter -n "__fish_encr_milter_using_subcommand check" -l json -d 'Tell it as one JSON object on standard output'
complete -c encr-milter -n "__fish_encr_milter_using_subcommand check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c encr-milter -n "__fish_encr_milter_using_subcommand explain" -l policy -d 'Policy files (or globs), together one policy' -r -F
complete -c encr-milter -n "__fish_encr_milter_using_subcommand explain" -l direction -d 'inbound or outbound [default: outbound where a server is given]' -r -f -a "inbound\t''
outbound\t''"
complete -c encr-milter -n "__fish_encr_milter_using_subcommand explain" -l ts -d 'When, RFC 3339; dates of the policy are held against it [default: now]' -r -f
complete -c encr-milter -n "__fish_encr_milter_using_subcommand explain" -l host -d 'The MTA\'s own name' -r -f
complete -c encr-milter -n "__fish_encr_milter_using_subcommand explain" -l queue-id -d 'The message\'s queue id' -r -f
complete -c encr-milter -n "__fish_encr_milter_using_subcommand explain" -l client-name -d 'The SMTP client\'s name' -r -f
complete -c encr-milter -n "__fish_encr_milter_using_subcommand explain" -l client-addr -d 'The SMTP client\'s address' -r -f
complete -c encr-milter -n "__fish_encr_milter_using_subcommand explain" -l client-resolve -d 'Whether the name is confirmed: OK, FAIL, FORGED, TEMP [default: OK]' -r -f
complete -c encr-milter -n "__fish_encr_milter_using_subcommand explain" -l server-name -d 'The SMTP server\'s name, outbound' -r -f
complete -c encr-milter -n "__fish_encr_milter_using_subcommand explain" -l server-addr -d 'The SMTP server\'s address, outbound' -r -f
complete -c encr-milter -n "__fish_encr_milter_using_subcommand explain" -l sender -d 'The envelope sender; <> is the null sender' -r -f
complete -c encr-milter -n "__fish_encr_milter_using_subcommand explain" -l recipient -d 'The envelope recipient' -r -f
complete -c encr-milter -n "__fish_encr_milter_using_subcommand explain" -l auth -d 'Who authenticated' -r -f
complete -c encr-milter -n "__fish_encr_milter_using_subcommand explain" -l tls-version -d 'TLSv1 … TLSv1.3' -r -f
complete -c encr-milter -n "__fish_encr_milter_using_subcommand explain" -l cipher -d 'The cipher suite' -r -f
complete -c encr-milter -n "__fish_encr_milter_using_subcommand explain" -l cipher-bits -d 'Effective key bits; 0 is in the clear' -r -f
complete -c encr-milter -n "__fish_encr_milter_using_subcommand explain" -l auth-ssf -d 'Key bits of a SASL security layer' -r -f
complete -c encr-milter -n "__fish_encr_milter_using_subcommand explain" -l verify -d 'How the certificate fared: OK, NO, NOT, FAIL, NONE' -r -f
complete -c encr-milter -n "__fish_encr_milter_using_subcommand explain" -l cn-subject -d 'The certificate\'s common name' -r -f
complete -c encr-milter -n "__fish_encr_milter_using_subcommand explain" -l cert-subject -d 'The certificate\'s subject' -r -f
complete -c encr-milter -n "__fish_encr_milter_using_subcommand explain" -l cert-issuer -d 'The certificate\'s issuer' -r -f
complete -c encr-milter -n "__fish_encr_milter_using_subcommand explain" -l waited -d 'How long the message has been tried, in seconds; a `max-delay` is held against it' -r -f
complete -c encr-milter -n "__fish_encr_milter_using_subcommand explain" -l batch -d 'Read decision records (or parts of them) as JSON Lines from standard input, and answer each with a record. What a record does not say was not told: the two conveniences do not hold'
complete -c encr-milter -n "__fish_encr_milter_using_subcommand explain" -l json -d 'Tell it as JSON'
complete -c encr-milter -n "__fish_encr_milter_using_subcommand explain" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c encr-milter -n "__fish_encr_milter_using_subcommand access; and not __fish_seen_subcommand_from import lint export" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c encr-milter -n "__fish_encr_milter_using_subcommand access; and not __fish_seen_subcommand_from import lint export" -f -a "import" -d 'Turn the TLS rules of an access map into a policy that decides as sendmail does'
complete -c encr-milter -n "__fish_encr_milter_using_subcommand access; and not __fish_seen_subcommand_from import lint export" -f -a "lint" -d 'Show all that is wrong with the TLS rules of an access map'
complete -c encr-milter -n "__fish_encr_milter_using_subcommand access; and not __fish_seen_subcommand_from import lint export" -f -a "export" -d 'Turn a policy\'s rules of one mode into lines of sendmail\'s access map, which hold when no milter runs'
complete -c encr-milter -n "__fish_encr_milter_using_subcommand access; and __fish_seen_subcommand_from import" -l mode -d 'Take every rule in this mode, whatever its prefix; `observe` is a dry run' -r -f -a "observe\t''
soft-fail\t''
enforce\t''"
complete -c encr-milter -n "__fish_encr_milter_using_subcommand access; and __fish_seen_subcommand_from import" -l tls-perm-err -d 'sendmail.mc defines TLS_PERM_ERR: rules without a prefix refuse for good'
complete -c encr-milter -n "__fish_encr_milter_using_subcommand access; and __fish_seen_subcommand_from import" -l no-skip -d 'FEATURE(`access_db\') of sendmail.mc is without `skip\' (Debian has it): SKIP is silently accepted'
complete -c encr-milter -n "__fish_encr_milter_using_subcommand access; and __fish_seen_subcommand_from import" -l json -d 'Tell policy and diagnostics as one JSON object on standard output'
complete -c encr-milter -n "__fish_encr_milter_using_subcommand access; and __fish_seen_subcommand_from import" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c encr-milter -n "__fish_encr_milter_using_subcommand access; and __fish_seen_subcommand_from lint" -l fail-on -d 'What makes it exit 78' -r -f -a "warning\t'A warning, or an error'
error\t'An error'"
complete -c encr-milter -n "__fish_encr_milter_using_subcommand access; and __fish_seen_subcommand_from lint" -l json -d 'Tell it as one JSON object on standard output'
complete -c encr-milter -n "__fish_encr_milter_using_subcommand access; and __fish_seen_subcommand_from lint" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c encr-milter -n "__fish_encr_milter_using_subcommand access; and __fish_seen_subcommand_from export" -l policy -d 'Policy files (or globs), together one policy' -r -F
complete -c encr-milter -n "__fish_encr_milter_using_subcommand access; and __fish_seen_subcommand_from export" -l mode -d 'The mode whose demands are exported' -r -f -a "enforce\t'What is refused: PERM+'
soft-fail\t'What is deferred: TEMP+'"
complete -c encr-milter -n "__fish_encr_milter_using_subcommand access; and __fish_seen_subcommand_from export" -l into -d 'The access file to put the block into (the text, not access.db)' -r -F
complete -c encr-milter -n "__fish_encr_milter_using_subcommand access; and __fish_seen_subcommand_from export" -l dry-run -d 'Show what would change, and change nothing'
complete -c encr-milter -n "__fish_encr_milter_using_subcommand access; and __fish_seen_subcommand_from export" -l json -d 'Tell it as one JSON object on standard output'
complete -c encr-milter -n "__fish_encr_milter_using_subcommand access; and __fish_seen_subcommand_from export" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c encr-milter -n "__fish_encr_milter_using_subcommand simulate" -l policy -d 'The policy to try: files (or globs), together one policy. Where logs follow, only the first need not be called *.toml' -r -F
complete -c encr-milter -n "__fish_encr_milter_using_subcommand simulate" -l against -d 'The policy to compare with, likewise [default: what was decided then]' -r -F
complete -c encr-milter -n "__fish_encr_milter_using_subcommand simulate" -l fail-on -d 'Exit with 1 where a message would newly have one of these fates: one that fares better now. Each stands for itself: name tempfail and reject for "deferred or worse"' -r -f -a "reject\t'5xx'
tempfail\t'4xx'
observe\t'Fails, and is let through'
unknown\t'Could not be judged'"
complete -c encr-milter -n "__fish_encr_milter_using_subcommand simulate" -l since -d 'Only what happened from then on: a date, or a time (2026-11-01, 2026-11-01T12:00, or RFC 3339)' -r -f
complete -c encr-milter -n "__fish_encr_milter_using_subcommand simulate" -l until -d 'Only what happened until then; of a date, to its end' -r -f
complete -c encr-milter -n "__fish_encr_milter_using_subcommand simulate" -l time-zone -d 'The time zone of stamps that do not tell theirs (Nov 22 02:07:29), and of --since and --until [default: this machine\'s]' -r -f
complete -c encr-milter -n "__fish_encr_milter_using_subcommand simulate" -l day -d 'Judge every message as if it had come on that day, and not on its own: what will a later `from` do?' -r -f
complete -c encr-milter -n "__fish_encr_milter_using_subcommand simulate" -l examples -d 'So many examples of each change, 10 at the most' -r -f
complete -c encr-milter -n "__fish_encr_milter_using_subcommand simulate" -l limit -d 'Show so many changes, the worst first; --json tells all' -r -f
complete -c encr-milter -n "__fish_encr_milter_using_subcommand simulate" -l records -d 'Print the new decision on every message as a decision record (JSON Lines), and no summary'
complete -c encr-milter -n "__fish_encr_milter_using_subcommand simulate" -l json -d 'Tell it as one JSON object'
complete -c encr-milter -n "__fish_encr_milter_using_subcommand simulate" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c encr-milter -n "__fish_encr_milter_using_subcommand report" -s c -l config -d 'The daemon\'s file: it names the policy and the folder of the evidence [default where nothing else is named: /etc/encr-milter/encr-milter.toml]' -r -F
complete -c encr-milter -n "__fish_encr_milter_using_subcommand report" -l policy -d 'The policy to tell it against: a file (or glob); several, each behind a --policy of its own, are one policy' -r -F
complete -c encr-milter -n "__fish_encr_milter_using_subcommand report" -l evidence -d 'An evidence file, in place of the daemon\'s' -r -F
complete -c encr-milter -n "__fish_encr_milter_using_subcommand report" -l time-zone -d 'The time zone of stamps in logs that do not tell theirs (Nov 22 02:07:29) [default: this machine\'s]' -r -f
complete -c encr-milter -n "__fish_encr_milter_using_subcommand report" -l since -d 'Only from that day on: 2026-11-01, in UTC' -r -f
complete -c encr-milter -n "__fish_encr_milter_using_subcommand report" -l until -d 'Only up to the end of that day' -r -f
complete -c encr-milter -n "__fish_encr_milter_using_subcommand report" -l days -d 'Only so many days, the last of them today' -r -f
complete -c encr-milter -n "__fish_encr_milter_using_subcommand report" -l domain -d 'The dossier of this domain and its subdomains' -r -f
complete -c encr-milter -n "__fish_encr_milter_using_subcommand report" -l our-name -d 'Who we are, as the dossier names us: "Example Ltd"' -r -f
complete -c encr-milter -n "__fish_encr_milter_using_subcommand report" -l top -d 'So many lines of each list; --json has all [default: 20; all of a dossier\'s]' -r -f
complete -c encr-milter -n "__fish_encr_milter_using_subcommand report" -s o -l output -d 'Write it to a file, as a whole or not at all, and not to standard output' -r -F
complete -c encr-milter -n "__fish_encr_milter_using_subcommand report" -l all -d 'All lines of each list'
complete -c encr-milter -n "__fish_encr_milter_using_subcommand report" -l json -d 'Tell it as one JSON object'
complete -c encr-milter -n "__fish_encr_milter_using_subcommand report" -l html -d 'Tell it as one HTML page that needs nothing else'
complete -c encr-milter -n "__fish_encr_milter_using_subcommand report" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c encr-milter -n "__fish_encr_milter_using_subcommand evidence; and not __fish_seen_subcommand_from merge stats" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c encr-milter -n "__fish_encr_milter_using_subcommand evidence; and not __fish_seen_subcommand_from merge stats" -f -a "merge" -d 'Put the evidence of several hosts together in a new file'
complete -c encr-milter -n "__fish_encr_milter_using_subcommand evidence; and not __fish_seen_subcommand_from merge stats" -f -a "stats" -d 'Show how much is in an evidence file'
complete -c encr-milter -n "__fish_encr_milter_using_subcommand evidence; and __fish_seen_subcommand_from merge" -s o -l output -d 'The new file' -r -F
complete -c encr-milter -n "__fish_encr_milter_using_subcommand evidence; and __fish_seen_subcommand_from merge" -l force -d 'Replace a file that is there'
complete -c encr-milter -n "__fish_encr_milter_using_subcommand evidence; and __fish_seen_subcommand_from merge" -l json -d 'Tell what is in the new file as one JSON object'
complete -c encr-milter -n "__fish_encr_milter_using_subcommand evidence; and __fish_seen_subcommand_from merge" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c encr-milter -n "__fish_encr_milter_using_subcommand evidence; and __fish_seen_subcommand_from stats" -l json -d 'Tell it as one JSON object'
complete -c encr-milter -n "__fish_encr_milter_using_subcommand evidence; and __fish_seen_subcommand_from stats" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c encr-milter -n "__fish_encr_milter_using_subcommand promote" -l to -d 'The mode that it shall have: soft-fail or enforce' -r -f -a "soft-fail\t''
enforce\t''"
complete -c encr-milter -n "__fish_encr_milter_using_subcommand promote" -l from -d 'In force from that day on, 00:00 UTC: 2027-01-15' -r -f
complete -c encr-milter -n "__fish_encr_milter_using_subcommand promote" -s c -l config -d 'The daemon\'s file: it names the policy and the folder of the evidence' -r -F
complete -c encr-milter -n "__fish_encr_milter_using_subcommand promote" -l policy -d 'Policy files (or globs), together one policy' -r -F
complete -c encr-milter -n "__fish_encr_milter_using_subcommand promote" -l evidence -d 'The evidence file, in place of the daemon\'s' -r -F
complete -c encr-milter -n "__fish_encr_milter_using_subcommand promote" -l percent -d 'With --to soft-fail: defer this share of what fails' -r -f
complete -c encr-milter -n "__fish_encr_milter_using_subcommand promote" -l max-delay -d 'With --to soft-fail: defer a message for so long at the most: 4h, 90m, 1d' -r -f
complete -c encr-milter -n "__fish_encr_milter_using_subcommand promote" -l check -d 'Ask all rules whether they are ripe, and change nothing'
complete -c encr-milter -n "__fish_encr_milter_using_subcommand promote" -l all -d 'With --check: show every rule, and what stands against it'
complete -c encr-milter -n "__fish_encr_milter_using_subcommand promote" -l force -d 'Do it in spite of all that stands against it, which is shown'
complete -c encr-milter -n "__fish_encr_milter_using_subcommand promote" -l dry-run -d 'Show what would change, and change nothing'
complete -c encr-milter -n "__fish_encr_milter_using_subcommand promote" -l json -d 'Tell it as one JSON object on standard output'
complete -c encr-milter -n "__fish_encr_milter_using_subcommand promote" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c encr-milter -n "__fish_encr_milter_using_subcommand demote" -l to -d 'The hardest mode that it may have then: observe or soft-fail' -r -f -a "observe\t''
soft-fail\t''"
complete -c encr-milter -n "__fish_encr_milter_using_subcommand demote" -s c -l config -d 'The daemon\'s file: it names the policy and the folder of the evidence' -r -F
complete -c encr-milter -n "__fish_encr_milter_using_subcommand demote" -l policy -d 'Policy files (or globs), together one policy' -r -F
complete -c encr-milter -n "__fish_encr_milter_using_subcommand demote" -l evidence -d 'The evidence file, in place of the daemon\'s' -r -F
complete -c encr-milter -n "__fish_encr_milter_using_subcommand demote" -l percent -d 'With --to soft-fail: defer this share of what fails' -r -f
complete -c encr-milter -n "__fish_encr_milter_using_subcommand demote" -l max-delay -d 'With --to soft-fail: defer a message for so long at the most: 4h, 90m, 1d' -r -f
complete -c encr-milter -n "__fish_encr_milter_using_subcommand demote" -l force -d 'Do it in spite of all that stands against it, which is shown'
complete -c encr-milter -n "__fish_encr_milter_using_subcommand demote" -l dry-run -d 'Show what would change, and change nothing'
complete -c encr-milter -n "__fish_encr_milter_using_subcommand demote" -l json -d 'Tell it as one JSON object on standard output'
complete -c encr-milter -n "__fish_encr_milter_using_subcommand demote" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c encr-milter -n "__fish_encr_milter_using_subcommand probe" -l require -d 'Exit with 1 where fewer bits than these are negotiated' -r -f
complete -c encr-milter -n "__fish_encr_milter_using_subcommand probe" -l policy -d 'What would this policy decide about a delivery to it? Files or globs' -r -F
complete -c encr-milter -n "__fish_encr_milter_using_subcommand probe" -s c -l config -d 'The same with the policy that a daemon\'s file names' -r -F
complete -c encr-milter -n "__fish_encr_milter_using_subcommand probe" -l recipient -d 'The recipient of that delivery, for rules on `recipient-outbound`' -r -f
complete -c encr-milter -n "__fish_encr_milter_using_subcommand probe" -l helo -d 'The name to give with EHLO [default: this host\'s]' -r -f
complete -c encr-milter -n "__fish_encr_milter_using_subcommand probe" -l timeout -d 'How long each step may take, in seconds' -r -f
complete -c encr-milter -n "__fish_encr_milter_using_subcommand probe" -l ca -d 'Certificates to trust, as PEM, in place of the system\'s: sendmail\'s confCACERT' -r -F
complete -c encr-milter -n "__fish_encr_milter_using_subcommand probe" -l resolver -d 'Who is asked for MX, in place of the system\'s resolver' -r -f
complete -c encr-milter -n "__fish_encr_milter_using_subcommand probe" -l mx -d 'It is a mail domain: look at all of its hosts (MX)'
complete -c encr-milter -n "__fish_encr_milter_using_subcommand probe" -l quick -d 'Only the one connection that any client would make'
complete -c encr-milter -n "__fish_encr_milter_using_subcommand probe" -s 4 -l ipv4 -d 'Addresses of IPv4 only'
complete -c encr-milter -n "__fish_encr_milter_using_subcommand probe" -s 6 -l ipv6 -d 'Addresses of IPv6 only'
complete -c encr-milter -n "__fish_encr_milter_using_subcommand probe" -l json -d 'Tell it as one JSON object'
complete -c encr-milter -n "__fish_encr_milter_using_subcommand probe" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c encr-milter -n "__fish_encr_milter_using_subcommand doctor" -s c -l config -d 'The daemon\'s file' -r -F
complete -c encr-milter -n "__fish_encr_milter_using_subcommand doctor" -l sendmail-cf -d 'sendmail\'s configuration [default: that of the running sendmail, or /etc/mail/sendmail.cf]' -r -F
complete -c encr-milter -n "__fish_encr_milter_using_subcommand doctor" -l mta -d 'The MTA to speak SMTP to [default: where sendmail.cf says that it listens]' -r -f
complete -c encr-milter -n "__fish_encr_milter_using_subcommand doctor" -l helo -d 'The name to give with EHLO, and the domain of that message\'s sender [default: this host\'s]' -r -f
complete -c encr-milter -n "__fish_encr_milter_using_subcommand doctor" -l timeout -d 'How long each step of a conversation may take, in seconds' -r -f
complete -c encr-milter -n "__fish_encr_milter_using_subcommand doctor" -l root -d 'Look at the files below this folder, as if it were /' -r -F
complete -c encr-milter -n "__fish_encr_milter_using_subcommand doctor" -l live -d 'Begin a message with the MTA, take it back before a recipient is named, and look for its record'
complete -c encr-milter -n "__fish_encr_milter_using_subcommand doctor" -s q -l quiet -d 'Only what is not as it should be'
complete -c encr-milter -n "__fish_encr_milter_using_subcommand doctor" -l json -d 'Tell it as one JSON object'
complete -c encr-milter -n "__fish_encr_milter_using_subcommand doctor" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c encr-milter -n "__fish_encr_milter_using_subcommand help; and not __fish_seen_subcommand_from run reload status check explain access simulate report evidence promote demote probe doctor help" -f -a "run" -d 'Run the daemon in the foreground, for systemd or another supervisor'
complete -c encr-milter -n "__fish_encr_milter_using_subcommand help; and not __fish_seen_subcommand_from run reload status check explain access simulate report evidence promote demote probe doctor help" -f -a "reload" -d 'Have the running daemon load its policy and open its logs anew, and tell what came of it'
complete -c encr-milter -n "__fish_encr_milter_using_subcommand help; and not __fish_seen_subcommand_from run reload status check explain access simulate report evidence promote demote probe doctor help" -f -a "status" -d 'Show how the running daemon does: its policy, the last load, connections, decisions, losses'
complete -c encr-milter -n "__fish_encr_milter_using_subcommand help; and not __fish_seen_subcommand_from run reload status check explain access simulate report evidence promote demote probe doctor help" -f -a "check" -d 'Show all that is wrong with the daemon\'s file and its policy, or with a policy alone'
complete -c encr-milter -n "__fish_encr_milter_using_subcommand help; and not __fish_seen_subcommand_from run reload status check explain access simulate report evidence promote demote probe doctor help" -f -a "explain" -d 'Show what would be decided for a connection, and why: the keys that were tried, in order'
complete -c encr-milter -n "__fish_encr_milter_using_subcommand help; and not __fish_seen_subcommand_from run reload status check explain access simulate report evidence promote demote probe doctor help" -f -a "access" -d 'From sendmail\'s access map to a policy, what is wrong with it, and back'
complete -c encr-milter -n "__fish_encr_milter_using_subcommand help; and not __fish_seen_subcommand_from run reload status check explain access simulate report evidence promote demote probe doctor help" -f -a "simulate" -d 'Replay logs against a policy that is not in force, and show only what would change'
complete -c encr-milter -n "__fish_encr_milter_using_subcommand help; and not __fish_seen_subcommand_from run reload status check explain access simulate report evidence promote demote probe doctor help" -f -a "report" -d 'Show who would break, where each rule stands, and what happened'
complete -c encr-milter -n "__fish_encr_milter_using_subcommand help; and not __fish_seen_subcommand_from run reload status check explain access simulate report evidence promote demote probe doctor help" -f -a "evidence" -d 'Put the evidence of several hosts together, and see what is in a file'
complete -c encr-milter -n "__fish_encr_milter_using_subcommand help; and not __fish_seen_subcommand_from run reload status check explain access simulate report evidence promote demote probe doctor help" -f -a "promote" -d 'Make a rule harder, in the policy file itself, if the evidence allows it'
complete -c encr-milter -n "__fish_encr_milter_using_subcommand help; and not __fish_seen_subcommand_from run reload status check explain access simulate report evidence promote demote probe doctor help" -f -a "demote" -d 'Make a rule softer, in the policy file itself'
complete -c encr-milter -n "__fish_encr_milter_using_subcommand help; and not __fish_seen_subcommand_from run reload status check explain access simulate report evidence promote demote probe doctor help" -f -a "probe" -d 'Look at any SMTP server\'s TLS: what it offers, what is negotiated, which thresholds that would meet'
complete -c encr-milter -n "__fish_encr_milter_using_subcommand help; and not __fish_seen_subcommand_from run reload status check explain access simulate report evidence promote demote probe doctor help" -f -a "doctor" -d 'Look at this machine, and say what is wrong and how to mend it'
complete -c encr-milter -n "__fish_encr_milter_using_subcommand help; and not __fish_seen_subcommand_from run reload status check explain access simulate report evidence promote demote probe doctor help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c encr-milter -n "__fish_encr_milter_using_subcommand help; and __fish_seen_subcommand_from access" -f -a "import" -d 'Turn the TLS rules of an access map into a policy that decides as sendmail does'
complete -c encr-milter -n "__fish_encr_milter_using_subcommand help; and __fish_seen_subcommand_from access" -f -a "lint" -d 'Show all that is wrong with the TLS rules of an access map'
complete -c encr-milter -n "__fish_encr_milter_using_subcommand help; and __fish_seen_subcommand_from access" -f -a "export" -d 'Turn a policy\'s rules of one mode into lines of sendmail\'s access map, which hold when no milter runs'
complete -c encr-milter -n "__fish_encr_milter_using_subcommand help; and __fish_seen_subcommand_from evidence" -f -a "merge" -d 'Put the evidence of several hosts together in a new file'
complete -c encr-milter -n "__fish_encr_milter_using_subcommand help; and __fish_seen_subcommand_from evidence" -f -a "stats" -d 'Show how much is in an evidence file'
