/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Help, from the tables; the example comes first.
 */
#include <stdio.h>
#include <string.h>

#include "izar/flags.h"
#include "izar/izar.h"

static void print_command(const struct command *c)
{
    char left[48];
    snprintf(left, sizeof left, "%s%s%s %s", c->noun, c->verb != NULL ? " " : "", c->verb != NULL ? c->verb : "", c->operands);
    printf("  %-34s %s\n", left, c->summary);
}

static void print_commands_json(void)
{
    json_t *list = json_array();
    for (uint32_t i = 0; command_at(i) != NULL; i++) {
        const struct command *c = command_at(i);
        json_array_append_new(list, json_pack("{s:s, s:s?, s:s, s:s, s:s}", "noun", c->noun, "verb", c->verb, "operands",
                                              c->operands, "summary", c->summary, "example", c->example));
    }
    print_json(list);
    json_decref(list);
}

int help_all(const struct options *o)
{
    if (o->output == OUTPUT_JSON) {
        print_commands_json();
        return EXIT_DONE;
    }
    printf("izar [FLAGS] NOUN VERB [NAME] [FLAGS]: manages an Izar node\n\n"
           "Example: a volume that a host can use at once:\n  izar volume create vm1 --size 500G --host "
           "hv1=iqn.1991-05.com.microsoft:hv1\n\n"
           "Commands (list and delete may be written ls and rm):\n");
    for (uint32_t i = 0; command_at(i) != NULL; i++) print_command(command_at(i));
    printf("\nFlags of all commands; izar help NOUN VERB tells the others:\n");
    flags_print(NULL);
    printf(
        "\nExit codes: 0 done, 1 failed, 2 usage, 3 not found, 4 conflict or exists, 5 denied, 6 unreachable, 7 timed out\n");
    return EXIT_DONE;
}

int help_noun(const char *noun)
{
    printf("izar %s VERB\n\n", noun);
    for (uint32_t i = 0; command_at(i) != NULL; i++) {
        if (strcmp(command_at(i)->noun, noun) == 0) print_command(command_at(i));
    }
    printf("\nizar help %s VERB tells more about one of them\n", noun);
    return EXIT_DONE;
}

int help_command(const struct command *c)
{
    printf("Example:\n  %s\n\nizar %s%s%s%s%s: %s\n", c->example, c->noun, c->verb != NULL ? " " : "",
           c->verb != NULL ? c->verb : "", c->operands[0] != '\0' ? " " : "", c->operands, c->summary);
    if (strlen(c->flags) > 1) {
        printf("\n");
        flags_print(c);
    }
    printf("\nFlags of all commands:\n");
    flags_print(NULL);
    return EXIT_DONE;
}

int cmd_help(struct session *s)
{
    const struct options *o = s->options;
    bool noun_known = false;
    if (o->operand_count == 0) return help_all(o);
    for (uint32_t i = 0; command_at(i) != NULL; i++) {
        const struct command *c = command_at(i);
        if (strcmp(c->noun, o->operands[0]) != 0) continue;
        noun_known = true;
        if (c->verb == NULL || (o->operand_count == 2 && strcmp(c->verb, o->operands[1]) == 0)) return help_command(c);
    }
    if (noun_known && o->operand_count == 1) return help_noun(o->operands[0]);
    return fail(EXIT_USAGE, "there is no help on that; izar help lists all commands");
}
