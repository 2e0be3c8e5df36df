package judge;

import java.io.File;
import java.util.Collections;
import java.util.jar.JarEntry;
import java.util.jar.JarFile;

/** Prints the names of all classes in the jars of its class path, as -XX:SharedClassListFile wants them. */
final class Classes {
    public static void main(String[] args) throws Exception {
        for (String path : System.getProperty("java.class.path").split(File.pathSeparator)) {
            try (JarFile jar = new JarFile(path)) {
                for (JarEntry entry : Collections.list(jar.entries())) {
                    String name = entry.getName();
                    if (name.endsWith(".class") && !name.startsWith("META-INF")) {
                        System.out.println(name.substring(0, name.length() - ".class".length()));
                    }
                }
            }
        }
    }
}
