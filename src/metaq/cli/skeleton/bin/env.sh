# Read by metaServer.sh. What stands in the environment already goes before.

# The Python that metaq is installed in; where it is gone, the `metaq` on the PATH is used.
: "${METAQ_PYTHON:=@PYTHON@}"

# true: start the broker with its HTTP plug-in and conf/jettyBroker.properties
: "${enableHttp:=false}"
