# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter `ziti_rules`. It runs on the controller, with JMESPath and the controller's resolver."""

from __future__ import annotations

DOCUMENTATION = r"""
name: ziti_rules
short_description: Make rules from the services of an OpenZiti controller
version_added: 0.1.0
description:
  - Reads the services and configurations of an OpenZiti controller, and returns a list for
    O(netedge.tproxy.tproxy_rule#module:rules).
  - Makes one rule for each address, port range, protocol and allowed source in C(intercept.v1), or in the older
    C(ziti-tunneler-client.v1). With C(interfaces.v1) the rules apply to those interfaces only.
  - Makes no rule for a service that no router intercepts. Such a service has neither of these configurations, or its
    C(interfaces.v1) lists no interface.
  - Every address becomes rules or is reported. A reported source address never becomes a rule for all sources.
  - A protocol other than C(tcp) and C(udp) is skipped with a warning, as routers skip it.
  - The filter reports all faults of an export together, by service and option. It also reports missing pages, because
    rules from a part of an export would purge the rules of the other part.
author:
  - netedge.tproxy contributors (@netedge)
positional: select
options:
  _input:
    description:
      - A dictionary with the lists C(services) and C(configs), as C(GET /edge/management/v1/services) and C(/configs)
        return them, or as C(ziti ops export) writes them.
      - A member may also be one answer of the controller, or a list of answers, one for each page.
      - The list C(configs) is optional if the services were fetched with C(configTypes=all).
    type: dict
    required: true
  select:
    description:
      - JMESPath expression that selects services from the list of services. The default is all services.
      - A service has the members that the controller gives it. Its member C(config) has its configurations by type.
    type: str
  tproxy_port:
    description:
      - Port of the proxy of a service. The controller does not know it.
      - A number is the port for all services.
      - A dictionary has the port by name or id of the service.
      - Any other text is a JMESPath expression that finds the port in a service, for example V(tags.tproxy_port). A
        service for which it fails is a service with a fault.
    type: raw
    required: true
  resolve:
    description:
      - Addresses of the host names of services. Unknown names are reported.
      - A dictionary has an address, a prefix or a list of them by name. It may have wildcards, in the exact form of the
        services.
      - V(system) asks the resolver of the controller. A router that answers DNS for its clients gives names addresses
        from its own range. So V(system) is correct only if the controller uses the DNS of that router.
    type: raw
  on_unresolved:
    description:
      - Action for addresses that make no rule (wildcards, unknown names, invalid addresses), and for services with a
        fault.
      - V(fail) fails and names all of them.
      - V(warn) warns about each, and returns the rules of the others. The same applies to services with a fault.
      - V(list) returns a dictionary with both, see RV(_value). A service with a fault is an entry of that list.
    type: str
    choices: [fail, warn, list]
    default: fail
  identity:
    description:
      - Select the services that this identity may dial, by its name or id. The identity of a router has its name. Role
        attributes of a service alone do not decide at a router.
      - The export needs the lists C(identities) and C(servicePolicies), as C(ziti ops export) writes them. Without
        them the member C(permissions) of each service counts. The controller fills it in for one identity, with
        C(GET /edge/management/v1/services?asIdentity=ID).
      - The expression O(select) then selects from these services.
    type: str
  owner:
    description: Owner of each rule. The default is the owner of the task.
    type: str
notes:
  - Needs jmespath on the controller.
  - Rules that an OpenZiti router adds by its diverter have owners that begin with C(ziti:). Use another owner here.
seealso:
  - module: netedge.tproxy.tproxy_rule
"""

EXAMPLES = r"""
- name: Splice the services of a branch, each to the port in its tag
  netedge.tproxy.tproxy_rule:
    rules: "{{ export | netedge.tproxy.ziti_rules(branch, tproxy_port='tags.tproxy_port') }}"
    owner: openziti
    purge: true
  vars:
    branch: "[?contains(roleAttributes, 'branch')]"
    export: "{{ lookup('ansible.builtin.file', 'export.json') | from_json }}"

- name: Resolve host names and a wildcard to the address range of the router's DNS
  netedge.tproxy.tproxy_rule:
    rules: "{{ export | netedge.tproxy.ziti_rules(tproxy_port=ports, resolve=names) }}"
    owner: openziti
  vars:
    ports: {erp: 33401, telephony: 33402}
    names:
      erp.example.com: 100.64.0.2
      "*.phones.example.com": 100.64.16.0/20

- name: Splice the services that the router of this host may dial
  netedge.tproxy.tproxy_rule:
    rules: "{{ export | netedge.tproxy.ziti_rules(tproxy_port=33401, identity=inventory_hostname) }}"
    owner: openziti
  vars:
    export: "{{ lookup('ansible.builtin.file', 'export.yml') | from_yaml }}"

- name: Show the addresses that make no rule
  ansible.builtin.debug:
    msg: "{{ made.unresolved }}"
  vars:
    made: "{{ export | netedge.tproxy.ziti_rules(tproxy_port=33401, resolve='system', on_unresolved='list') }}"
"""

RETURN = r"""
_value:
  description:
    - A list of rules, for O(netedge.tproxy.tproxy_rule#module:rules).
    - With O(on_unresolved=list) a dictionary. C(rules) is that list. C(unresolved) lists the addresses that make no
      rule, each with C(service), C(id), C(option), C(address) and C(reason). An entry without C(address) is about a
      whole service.
  type: raw
  sample:
    - {name: erp, destination: 172.16.1.0/24, protocol: tcp, ports: "443", tproxy_port: 33401}
"""

import socket
from contextlib import contextmanager

from ansible.errors import AnsibleFilterError
from ansible.utils.display import Display

from ..module_utils._tproxy.errors import InvalidInput, MissingLibrary, TproxyError
from ..module_utils._tproxy.openziti.export import plain, read_export
from ..module_utils._tproxy.openziti.permissions import dialable
from ..module_utils._tproxy.openziti.rules import is_host_name, read_names, rules_of

try:
    import jmespath
except ImportError:
    jmespath = None

ON_UNRESOLVED = ("fail", "warn", "list")


def ziti_rules(export, select=None, tproxy_port=None, resolve=None, on_unresolved="fail", owner=None, identity=None):
    """Return the rules of the services of an export; see DOCUMENTATION. Raise AnsibleFilterError."""
    try:
        if on_unresolved not in ON_UNRESOLVED:
            raise InvalidInput([f"on_unresolved: {on_unresolved!r} is not one of {', '.join(ON_UNRESOLVED)}"])
        services = read_export(export)
        if identity is not None:
            services = dialable(plain(export), services, str(identity))
        services = _select(services, select)
        rules, unresolved, faults, skipped = rules_of(services, _ports(tproxy_port), _names(resolve), owner)
        if on_unresolved == "fail" and (faults or unresolved):
            raise InvalidInput([*map(str, faults), *map(str, unresolved)])
    except TproxyError as error:
        raise AnsibleFilterError(str(error)) from None
    is_list = on_unresolved == "list"
    for one in skipped if is_list else [*skipped, *faults, *unresolved]:
        Display().warning(f"netedge.tproxy.ziti_rules: {one}")
    if is_list:
        return {"rules": rules, "unresolved": [one._asdict() for one in [*_as_list(faults), *unresolved]]}
    return rules


def _as_list(faults: list) -> list:
    return [fault.as_unresolved() for fault in faults]


def _searching(option: str, expression: str):
    """Return a function that evaluates a JMESPath expression. Raise InvalidInput or MissingLibrary, as it does."""
    if jmespath is None:
        raise MissingLibrary("jmespath", "install it on the controller, for the Python that runs ansible-playbook")
    with _telling(option, expression):
        compiled = jmespath.compile(str(expression))

    def search(value):
        with _telling(option, expression):
            return compiled.search(value)

    return search


@contextmanager
def _telling(option: str, expression: str):
    try:
        yield
    except (TypeError, ValueError) as wrong:  # its own errors are ValueErrors; some of its functions raise Python's
        raise InvalidInput([f"{option}: {expression!r}: {wrong}"]) from None


def _select(services: list, expression) -> list:
    if expression is None:
        return services
    found = _searching("select", expression)(services)
    chosen = [found] if isinstance(found, dict) else found
    known = {id(service) for service in services}
    if not isinstance(chosen, list) or not all(id(service) in known for service in chosen):
        advice = "it must choose from the list of services, as [?contains(roleAttributes, 'branch')] does"
        raise InvalidInput([f"select: {expression!r} gives {found!r:.80}; {advice}"])
    if not chosen:
        Display().warning(f"netedge.tproxy.ziti_rules: select: {expression!r} chooses none of {len(services)} services")
    return chosen


def _ports(given):
    """Return a function that finds the port of a service. The rule checks the port later."""
    if isinstance(given, dict):
        return lambda service: given.get(service["id"], given.get(service["name"]))
    if given is None or isinstance(given, int) or str(given).isdigit():
        return lambda service: given
    return _searching("tproxy_port", given)


def _names(given):
    """Return a function that resolves a name. Raise InvalidInput."""
    if given == "system":
        return _ask_resolver
    if given is not None and not isinstance(given, dict):
        raise InvalidInput([f"resolve: {given!r} is neither a dictionary of names nor 'system'"])
    known = read_names(given or {})
    return lambda name: known.get(name, [])


def _ask_resolver(name: str) -> list:
    """Return the addresses of a name from the controller's resolver."""
    if not is_host_name(name):
        return []
    try:
        answers = socket.getaddrinfo(name, None, proto=socket.IPPROTO_TCP)
    except (OSError, UnicodeError):  # the latter for names that no encoding of DNS can hold
        return []
    return [address[0] for _family, _kind, _protocol, _name, address in answers if "%" not in address[0]]


class FilterModule:
    """The filter plugin for Ansible."""

    def filters(self) -> dict:
        """Return the filters by name."""
        return {"ziti_rules": ziti_rules}
